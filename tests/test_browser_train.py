"""Train live in a real Chromium, with the tiny preset: its curves move, it outlives its page, and it can be resumed."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import chromium, serving

from expo_lite.run_dir import RunDir
from expo_lite.ui.training import Trainings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "tiny-expo-seed0"
PATIENCE = 240_000
"""Milliseconds. On an idle machine everything here comes within one of them in ten."""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs; what is still being trained there in the end is ended."""
    yield tmp_path
    trainings = Trainings(tmp_path)
    while (name := trainings.active()) is not None:
        os.kill(trainings.running(name) or 0, signal.SIGKILL)
        time.sleep(0.1)


def train_tab(page: Any) -> Any:
    page.get_by_role("tab", name="Train live").click()
    page.locator("#train-start").wait_for()
    return page


def steps_done(page: Any) -> int:
    return int(page.locator("#train-progress [role=progressbar]").get_attribute("aria-valuenow"))


def after_step(page: Any, least: int) -> None:
    bar = "document.querySelector('#train-progress [role=progressbar]')"
    page.wait_for_function(f"{bar} && Number({bar}.ariaValueNow) >= {least}", timeout=PATIENCE)


def says(page: Any, words: str) -> None:
    page.locator("#train-progress", has_text=words).wait_for(timeout=PATIENCE)


def finds(page: Any, name: str) -> None:
    page.wait_for_function("name => document.querySelector('#train-run input').value == name", arg=name)


def level_5(page: Any) -> int:
    """Per cent of the hardest level's problems that the live curve stands at."""
    label = page.locator("#train-charts [role=img]").first.get_attribute("aria-label")
    return int(re.search(r"L5 (\d+) %", label)[1])


def test_from_start_to_resumption(root: Path, visit: Callable[..., Any]) -> None:
    chromium()
    with serving("--root", str(root)) as url:
        page = train_tab(visit(url))
        says(page, "No run yet")
        assert page.locator("#train-command code").inner_text() == (
            f"python -m expo_lite.train --preset tiny --explanation.source self --seed 0 --run {root / NAME}"
        )
        page.locator("#train-start").click()
        page.locator("#train-status", has_text=f"{NAME} has begun.").wait_for()
        says(page, "Training: step")
        after_step(page, 2)
        assert level_5(page) == 0
        hardest = page.locator("#train-charts path.line.s5").first
        curve = hardest.get_attribute("d")

        other = train_tab(visit(url))  # another visitor sees the same run, and cannot start a second one
        finds(other, NAME)
        other.locator("#train-start").click()
        other.locator("#train-status", has_text=f"{NAME} is being trained, and there is room for one").wait_for()
        other.context.close()

        page.wait_for_function(
            "/L5 [1-9]/.test(document.querySelector('#train-charts [role=img]').ariaLabel)", timeout=PATIENCE
        )
        assert level_5(page) > 0 and steps_done(page) < 40
        moved = hardest.get_attribute("d")
        assert len(moved) > len(curve) and min(float(y) for y in re.findall(r" ([\d.]+)", moved)) < 1000
        rescued = page.locator("#train-feed .rescue").first
        answer = re.search(r"answer (\d+)", rescued.inner_text())[1]
        assert rescued.locator(".live-cell.right .katex .boxpad").inner_text() == answer
        assert rescued.locator(".live-cell.wrong .katex .boxpad").inner_text() != answer
        page.context.close()  # the training goes on

        page = train_tab(visit(url))
        says(page, "Training: step")
        finds(page, NAME)
        page.locator("#train-stop").click()
        says(page, "saved, and ready to be resumed")
        stopped_at = steps_done(page)
        assert RunDir(root / NAME).read_status()["state"] == "stopped"
        assert [step for step, _ in RunDir(root / NAME).checkpoints()][-1] == stopped_at
        assert not page.locator("#train-stop").is_enabled()
        page.context.close()

    with serving("--root", str(root)) as url:  # another app on the same folder
        page = train_tab(visit(url))
        says(page, f"Stopped after step {stopped_at} of 100")
        page.locator("#train-resume").click()
        after_step(page, stopped_at + 1)
        page.locator("#train-stop").click()
        says(page, "saved, and ready to be resumed")
        steps = [record["step"] for record in RunDir(root / NAME).read("metrics.jsonl")]
        assert steps == list(range(1, steps_done(page) + 1))
        page.context.close()


def test_before_a_start(app_url: str, visit: Callable[..., Any]) -> None:
    page = train_tab(visit(app_url, viewport={"width": 400, "height": 900}))
    says(page, "Finished: step 60 of 60.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for name in ("Preset", "Seed", "The command that Start runs", "Run on the screen", "ExPO: its own explanations"):
        assert page.get_by_label(name, exact=True).count() == 1
    page.locator("#train-preset input").click()
    page.get_by_role("option", name="24gb").click()
    page.locator("#train-plan", has_text="needs an NVIDIA GPU, and there is none here").wait_for()
    assert "21.60 of 24 GiB on the GPU" in page.locator("#train-plan").inner_text()
    assert not page.locator("#train-start").is_enabled()
    page.locator("#train-preset input").click()
    page.get_by_role("option", name="tiny").click()
    page.get_by_label("GRPO").check()
    page.locator("#train-seed input").fill("7")
    page.locator("#train-seed input").blur()
    page.wait_for_function("document.querySelector('#train-command code').textContent.includes('--seed 7')")
    assert "--explanation.source none --seed 7" in page.locator("#train-command code").inner_text()
    assert page.locator("#train-start").is_enabled()
    page.locator("#train-compare").click()
    page.locator("#compare").wait_for()
