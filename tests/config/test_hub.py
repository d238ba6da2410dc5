"""A Hub that cannot be reached: one sentence at once, without retries; one that is slow is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub import constants

from expo_lite.config.hub import hub_names, may_be_on_hub, offline_if_unreachable, reachable
from expo_lite.config.settings import Config

NOBODY_LISTENS = "http://127.0.0.1:9"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes the Hub raise or answer each time it is asked, and gives what was asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def answering(*answers: Exception | int) -> list[str]:
        asked: list[str] = []
        remaining = iter(answers)

        def head(url: str, **_: Any) -> httpx.Response:
            asked.append(url)
            answer = next(remaining)
            if isinstance(answer, Exception):
                raise answer
            return httpx.Response(answer)

        session = type("Session", (), {"head": staticmethod(head)})
        monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
        return asked

    return answering


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([200], True),
        ([503], True),
        ([httpx.ConnectError("no route")] * 2, False),
        ([httpx.ConnectError("no route"), 200], True),
        ([httpx.ConnectTimeout("slow")] * 2, False),
        ([httpx.ReadTimeout("slow")], True),
    ],
)
def test_reachable(hub: Callable[..., list[str]], answers: list[Any], expected: bool) -> None:
    asked = hub(*answers)
    assert reachable() is expected
    assert asked == [constants.ENDPOINT] * len(answers)


def test_it_is_asked_only_where_something_may_be_there(hub: Callable[..., list[str]]) -> None:
    asked = hub()
    offline_if_unreachable(hub_names(Config()))
    assert asked == [] and not constants.HF_HUB_OFFLINE


def test_what_may_be_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert may_be_on_hub("Qwen/Qwen2.5-0.5B-Instruct")
    assert not any(map(may_be_on_hub, ["tiny", "runs/mine", "./nowhere", "runs/mine/adapter", "reasoning-gym:gcd"]))


def test_then_the_libraries_use_their_caches(hub: Callable[..., list[str]]) -> None:
    hub(*[httpx.ConnectError("no route")] * 2)
    offline_if_unreachable(["some/model"])
    assert constants.is_offline_mode() and os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--policy.model", "some/model"], "policy.model: cannot load 'some/model'"),
        (["--data.source", "openai/gsm8k"], "openai/gsm8k: the Hub cannot be reached"),
    ],
)
def test_one_sentence_and_no_retries(tmp_path: Path, flags: list[str], said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "expo_lite.train", "--preset", "tiny", *flags],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "HF_ENDPOINT": NOBODY_LISTENS, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "",
             "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 2 and line.startswith(said)
