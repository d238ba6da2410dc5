"""Train live in a real Chromium, with the tiny preset: its curves move, it outlives its page, and it can be resumed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import need_chromium, serving

from expo_lite.app.train.trainings import Trainings
from expo_lite.runs.folder import SAMPLES, RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "tiny-expo-seed0"
HARD, CLIMBED_BY = (4, 5), 40
"""Levels that the base fails at, and the step by which both curves have left 0: two minutes are about 70 steps."""
PATIENCE = 240_000
"""Milliseconds. On an idle machine everything here comes within one of them in ten."""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs; what is still being trained there in the end is ended."""
    yield tmp_path
    trainings = Trainings(tmp_path)
    while (name := trainings.active()) is not None:
        if (pid := trainings.running(name)) is not None:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def train_tab(page: Any) -> Any:
    page.get_by_role("tab", name="Train live").click()
    page.locator("#train-start:not([disabled])").wait_for()
    page.locator("#train-command pre", has_text="expo_lite.train").wait_for()
    return page


def steps_done(page: Any) -> int:
    return int(page.locator("#train-progress [role=progressbar]").get_attribute("aria-valuenow"))


def after_step(page: Any, least: int) -> None:
    bar = "document.querySelector('#train-progress [role=progressbar]')"
    page.wait_for_function(f"{bar} && Number({bar}.ariaValueNow) >= {least}", timeout=PATIENCE)


def says(page: Any, words: str) -> None:
    page.locator("#train-progress", has_text=words).wait_for(timeout=PATIENCE)


def finds(page: Any, name: str) -> None:
    page.wait_for_function("name => document.querySelector('#train-run input').value.split(' · ')[0] == name", arg=name)


def levels(page: Any) -> dict[int, int]:
    """By level: per cent of its problems that the live curve stands at."""
    label = page.locator("#train-charts [role=img]").first.get_attribute("aria-label")
    return {int(level): int(share) for level, share in re.findall(r"L(\d) (\d+) %", label)}


def test_from_start_to_resumption(root: Path, visit: Callable[..., Any]) -> None:
    need_chromium()
    with serving("--root", str(root)) as url:
        page = train_tab(visit(url))
        says(page, "No run yet")
        assert page.locator("#train-command code").inner_text() == (
            f"python -m expo_lite.train --preset tiny --explanation.source self --seed 0 --run {root / NAME}"
        )
        page.locator("#train-start").click()
        page.locator("#train-status", has_text=f"{NAME} has begun.").wait_for()
        assert page.locator("#train-command").inner_text().startswith(f"The command that runs {NAME}")
        says(page, "Training: step")
        after_step(page, 2)
        after_step(page, 5)
        charts = page.locator("#train-charts .live-chart").nth(1).bounding_box()
        assert charts["y"] + charts["height"] < page.viewport_size["height"]  # not below the fold
        assert all(levels(page)[hard] == 0 for hard in HARD)
        hardest = page.locator("#train-charts path.line.s5").first
        curve = hardest.get_attribute("d")

        other = train_tab(visit(url))  # another user sees the same run, and cannot start a second one
        finds(other, NAME)
        other.locator("#train-start").click()
        other.locator("#train-status", has_text=f"{NAME} is being trained, and there is room for one").wait_for()
        other.context.close()

        label = "document.querySelector('#train-charts [role=img]').ariaLabel"
        page.wait_for_function(f"/L4 [1-9]\\d? .*L5 [1-9]\\d? /.test({label})", timeout=PATIENCE)
        assert min(levels(page)[hard] for hard in HARD) > 0 and steps_done(page) <= CLIMBED_BY
        moved = hardest.get_attribute("d")
        assert len(moved) > len(curve) and min(float(y) for y in re.findall(r" ([\d.]+)", moved)) < 1000
        rescued = page.locator("#train-feed .rescue").first
        answer = re.findall(r"answer (\d+)", rescued.inner_text())[0]
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


def metrics(folder: Path) -> list[dict[str, float]]:
    return RunDir(folder).read("metrics.jsonl")


def test_it_outlives_the_app(root: Path, visit: Callable[..., Any]) -> None:
    with serving("--root", str(root)) as url:
        page = train_tab(visit(url))
        page.locator("#train-start").click()
        after_step(page, 1)
        page.context.close()
    closed_after = len(metrics(root / NAME))
    end = time.monotonic() + PATIENCE / 1000
    while len(metrics(root / NAME)) < closed_after + 2:  # no app is there, and the steps go on
        assert time.monotonic() < end, "the training ended with its app"
        time.sleep(0.2)
    with serving("--root", str(root)) as url:
        page = train_tab(visit(url))
        finds(page, NAME)
        after_step(page, closed_after + 2)
        page.locator("#train-stop").click()
        says(page, "saved, and ready to be resumed")
        assert page.locator("#train-resume").is_enabled()
        assert RunDir(root / NAME).checkpoints()[-1][0] == steps_done(page) == len(metrics(root / NAME))
        page.context.close()


FOCUSED = """() => {
  const at = document.activeElement, named = at.closest('[id^=train-]');
  return named ? named.id + (named.id == 'train-command' ? ' ' + at.tagName.toLowerCase() : '') : at.tagName;
}"""
"""Where the keyboard is: the id of the part of the tab, and in the command also which element."""


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_by_keyboard(root: Path, visit: Callable[..., Any], key: str) -> None:
    with serving("--root", str(root)) as url:
        page = train_tab(visit(url))
        page.evaluate("window.region = document.querySelector('#train-status [role=status]')")
        page.locator("#train-preset input").focus()
        reached = [page.evaluate(FOCUSED)]
        for _ in range(12):
            if reached[-1] == "train-start":
                break
            page.keyboard.press("Tab")
            if (at := page.evaluate(FOCUSED)) != reached[-1]:  # each method is a stop of its own
                reached.append(at)
        in_order = ["train-preset", "train-method", "train-seed", "train-command button", "train-command pre"]
        assert reached == [*in_order, "train-start"]
        page.keyboard.press(key)
        page.locator("#train-status", has_text="has begun.").wait_for()
        # A reader of the screen hears what changes in a live region that was there before.
        assert page.evaluate("region.isConnected && region.role == 'status' && /has begun/.test(region.textContent)")
        page.locator("#train-stop:not([disabled])").focus()
        page.keyboard.press(key)
        says(page, "Stopped")
        page.wait_for_function("/Stopped after step|Stopped before/.test(region.textContent)")  # the end is read out
        assert page.evaluate("region.isConnected && !/has begun|It saves/.test(region.textContent)")
        assert page.locator("#train-status .unseen").count() == 1  # and seen in the run's own head alone
        page.context.close()


def test_nothing_is_trained_yet(root: Path, visit: Callable[..., Any]) -> None:
    """The way there from Compare."""
    with serving("--root", str(root)) as url:
        page = visit(url)
        page.locator("#train-one").click()
        page.locator("#train-start").wait_for()
        assert page.get_by_role("tab", name="Train live").get_attribute("aria-selected") == "true"
        page.context.close()


@pytest.mark.parametrize("width", [400, 1280, 1600])
def test_nothing_sticks_out(app_url: str, visit: Callable[..., Any], width: int) -> None:
    page = train_tab(visit(app_url, viewport={"width": width, "height": 900}))
    says(page, "Finished: step 60 of 60.")
    page.get_by_text("These curves as numbers").click()
    page.locator("#train-numbers table").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = page.get_by_role("tab").evaluate_all("tabs => tabs.map(tab => tab.getBoundingClientRect().top)")
    assert len(tops) == 4 and len(set(tops)) == 1  # all in one line
    sticking_out = """() => [...document.querySelectorAll('button[id^=train-], #train-command button')]
      .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth).map(e => e.id || e.textContent)"""
    assert page.evaluate(sticking_out) == []
    inner, outer = (
        page.locator("#train-compare").evaluate(f"e => {{ const r = document.createRange(); {what}; {width_of} }}")
        for what, width_of in (
            ("r.selectNodeContents(e)", "return r.getBoundingClientRect().width"),
            ("", "return e.clientWidth"),
        )
    )
    assert inner + 24 <= outer  # its words have air around them


def test_what_is_shown_is_what_was_recorded(root: Path, trained_runs: Path, visit: Callable[..., Any]) -> None:
    """Seconds by phase, rejected explanations, and memory against the budget; what only some runs have is written."""
    shutil.copytree(trained_runs / "tiny-trained", root / "measured")
    steps = metrics(root / "measured")
    peaks = [0.25 + 0.001 * step["step"] for step in steps]
    lines = [json.dumps(step | {"peak_reserved_gib": peak}) + "\n" for step, peak in zip(steps, peaks, strict=True)]
    (root / "measured" / "metrics.jsonl").write_text("".join(lines))
    samples = [s for s in RunDir(root / "measured").read(SAMPLES) if not s.get("rejected")]
    rescuers = [s for s in samples if s.get("trained") and s["kind"] == "explanation"]
    told = {"trained": False, "rejected": "leak"}
    leaks = [{**s, **told, "text": text} for s in rescuers for text in ("a leak", "second leak")]
    (root / "measured" / SAMPLES).write_text("".join(json.dumps(s) + "\n" for s in [*samples, *leaks]))
    with serving("--root", str(root)) as url:
        page = train_tab(visit(url))
        says(page, "Finished: step 60 of 60.")
        last = steps[-5:]
        means = {p: sum(step[f"{p}_seconds"] for step in last) / 5 for p in ("generate", "verify", "explain", "train")}
        shown = page.locator(".live-phase-names li").all_inner_texts()
        assert [text.rpartition(" s ")[0] for text in shown] == [f"{p} {mean:.2f}" for p, mean in means.items()]
        widths = page.locator(".live-phases i").evaluate_all("all => all.map(e => parseFloat(e.style.width))")
        assert widths == [pytest.approx(100 * mean / sum(means.values()), abs=0.06) for mean in means.values()]
        memory = page.locator(".live-chart.small", has_text="Memory")
        assert "of 1 GiB" in memory.inner_text() and f"{max(peaks):.2f} GiB" in memory.inner_text()
        filled = memory.locator(".live-track i").evaluate("e => parseFloat(e.style.width)")
        assert filled == pytest.approx(100 * max(peaks), abs=0.06)
        rescued = len({(s["step"], s["problem"]) for s in rescuers})
        shown = page.locator("#train-feed-title p")
        assert shown.inner_text() == f"1–3 of {rescued}, newest first" and not page.locator("#feed-newer").is_enabled()
        first = page.locator("#train-feed").inner_text()
        page.locator("#feed-older").click()
        page.locator("#train-feed-title", has_text=f"4–6 of {rescued}").wait_for()
        assert page.locator("#train-feed").inner_text() != first
        page.locator("#feed-newer").click()
        page.locator("#train-feed-title", has_text=f"1–3 of {rescued}").wait_for()
        cell = page.locator("#train-feed .live-cell.rejected").first
        assert cell.locator("h4").inner_text() == "– Turned down: it betrays that the answer was told (2)"
        assert not cell.get_by_text("second leak").is_visible()
        cell.get_by_text("1 more").click()
        assert cell.get_by_text("second leak").is_visible()
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
