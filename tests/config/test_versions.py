"""Versions of libraries that are not supported: one message before anything is loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from expo_lite.commands import app, properties, study, train
from expo_lite.config import versions
from expo_lite.core.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_the_ranges_are_those_of_the_package() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert [name for name, asked in versions.TESTED.items() if f'"{name}{asked}"' not in pyproject] == []
    pinned = re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    versions.require_tested(dict(pinned))


@pytest.mark.parametrize("transformers", ["4.57.6", "6.0.0", "99.0.dev0"])
def test_older_and_newer_ones(monkeypatch: pytest.MonkeyPatch, transformers: str) -> None:
    installed = {"transformers": transformers, "peft": "0.21.2"}
    with pytest.raises(ConfigError) as caught:
        versions.require_tested(installed)
    asked = versions.TESTED["transformers"]
    first, then = str(caught.value).splitlines()
    assert first == f"transformers {transformers} is installed; supported is transformers {asked}."
    assert then.startswith(f'pip install "transformers{asked}" mends it')
    monkeypatch.setenv(versions.ANYWAY, "1")
    versions.require_tested(installed)


def test_all_that_is_wrong_is_named_together() -> None:
    with pytest.raises(ConfigError, match=r"transformers 4.0 is [^\n]+\npeft 0.1 is [^\n]+\npip install "):
        versions.require_tested({"transformers": "4.0", "peft": "0.1"})


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (train.main, ["--preset", "tiny"]), (study.main, ["--preset", "tiny"]), (app.main, []),
        (properties.main, ["--preset", "tiny"]),
    ],
    ids=["train", "study", "app", "properties"],
)  # fmt: skip
def test_each_command_says_it(
    command: Callable[[list[str]], int], words: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(versions, "TESTED", {"transformers": "<1"})
    assert command(words) == 2
    assert "is installed; supported is transformers <1." in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_before_transformers_is_imported(tmp_path: Path) -> None:
    """A package of that name which can only be looked up: importing it would fail."""
    found = tmp_path / "transformers-99.0.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 99.0\n")
    (tmp_path / "transformers.py").write_text("raise ImportError('of another time')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {name: value for name, value in os.environ.items() if name != versions.ANYWAY} | {"PYTHONPATH": path}
    command = [sys.executable, "-m", "expo_lite.train", "--preset", "tiny", "--run", str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("transformers 99.0 is installed; supported is ")
    assert "Traceback" not in ended.stderr
