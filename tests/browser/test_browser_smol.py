"""The app with a real language model: what a run of `smol` shows, and Stop while it writes at length."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import need_chromium, serving
from support.smol import SMALL, fill_cache

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of one step, below whose model's cache lies."""
    need_chromium()
    folder = tmp_path_factory.mktemp("smol")
    fill_cache(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        small = [*SMALL, "--rollout.max-prompt-tokens", "256", "--steps", "1"]
        command = [sys.executable, "-m", "expo_lite.train", "--preset", "smol", *small, "--run", str(folder / "run")]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        yield folder / "run"


def test_it_is_compared(run: Path, visit: Callable[..., Any]) -> None:
    """A problem of its own test split: each card has its lines, and the box is set as mathematics."""
    with serving("--run", str(run)) as url:
        page = visit(url)
        page.locator("#compare").click()
        page.locator("#status", has_text="Done.").wait_for()
        for role in ("before", "explanation", "after"):
            written = page.locator(f"#board .card.{role}")
            assert "The answer is" in written.locator(".card-body").inner_text()
            assert written.locator(".card-body .katex .boxpad").count() == 1
            assert len(written.locator(".card-body").inner_text().splitlines()) > 1
        page.context.close()  # before its server goes


def test_stop_ends_a_long_answer_within_a_second(run: Path, tmp_path: Path, visit: Callable[..., Any]) -> None:
    wordy = Path(shutil.copytree(run, tmp_path / "wordy"))
    config = yaml.safe_load((wordy / "config.yaml").read_text())
    config["prompt"]["examples"], config["rollout"]["max_new_tokens"] = [], 512
    (wordy / "config.yaml").write_text(yaml.safe_dump(config))
    with serving("--run", str(wordy)) as url:
        page = visit(url)
        page.locator("#question textarea").fill("Tell the story of a dragon who learns to add, day by day.")
        page.locator("#compare").click()
        page.wait_for_function("/\\d\\d tokens/.test(document.getElementById('board').innerText)")
        page.evaluate("window.pressed = performance.now()")
        page.locator("#stop").click()
        page.locator("#status", has_text="Stopped").wait_for(timeout=1000)
        print("stopped within", round(page.evaluate("performance.now() - window.pressed")), "ms")
        page.wait_for_function("document.querySelectorAll('#board .card.writing').length == 0")
        cards = page.locator("#board .card")
        held = cards.all_inner_texts()
        assert any("· stopped" in text for text in held)
        page.wait_for_timeout(1000)
        assert cards.all_inner_texts() == held
        page.context.close()
