"""The tabs Runs and "Will it fit?" in a real Chromium: what they show is compared with the runs' files and the plan."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import need_chromium, serving

from expo_lite.app.fit.answer import fit, preset_values
from expo_lite.app.fit.board import gib
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HOSTILE = '<script>window.hurt=1</script><img src="http://evil.example/a.png" onerror="window.hurt=1">'
EXPO, GRPO = "tiny-trained", "tiny-grpo"


@pytest.fixture(scope="module")
def root(trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run that all browser tests share, copied, and beside it a short one of plain GRPO, the newest."""
    root = tmp_path_factory.mktemp("two-runs")
    shutil.copytree(trained_runs / EXPO, root / EXPO)
    small = ["--data.test-problems", "4", "--data.validation-problems", "4", "--evaluation.every", "5", "--steps", "10"]
    command = [sys.executable, "-m", "expo_lite.train", "--preset", "tiny", "--explanation.source", "none", *small]
    subprocess.run([*command, "--run", str(root / GRPO)], check=True, capture_output=True, timeout=300)
    hostile = {"step": 10, "problem": "h", "level": 9, "question": HOSTILE, "answer": HOSTILE, "verdict": "wrong"}
    RunDir(root / GRPO).append(SAMPLES, {**hostile, "tokens": 1, "text": HOSTILE, "kind": "rollout", "group": "failed"})
    return root


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    need_chromium()
    with serving("--root", str(root)) as address:
        yield address


def open_runs(page: Any) -> None:
    page.get_by_role("tab", name="Runs").click()
    page.locator("#samples tr[data-row]").first.wait_for()


def open_fit(page: Any) -> None:
    page.get_by_role("tab", name="Will it fit?").click()
    page.locator("#fit-board .stack").first.wait_for()


def points(page: Any, title: str, letter: str) -> dict[int, float]:
    """What a panel draws of a run: value by step."""
    chart = page.locator("#curves figure").filter(has=page.get_by_text(title, exact=True))
    values = json.loads(chart.locator(f'.line[data-name="{letter}"]').get_attribute("data-values"))
    return {int(step): float(value.split()[0]) for step, value in values}


def found(page: Any, count: int) -> None:
    """Wait for the table of so many samples."""
    page.locator("#samples-count", has_text=re.compile(rf"^\s*{count:,} of ")).wait_for()


class TestRuns:
    def test_curves_show_the_files_numbers(self, url: str, root: Path, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        assert page.locator(".keys .name").all_inner_texts() == [EXPO, GRPO]  # what explains itself first
        assert "GRPO · tiny · step 10 of 10 · finished" in page.locator(".keys").inner_text()
        for letter, name in zip("AB", (EXPO, GRPO), strict=True):
            run = RunDir(root / name)
            rewards = {r["step"]: r["reward_mean"] for r in run.read(METRICS)}
            assert points(page, "Reward", letter) == pytest.approx(rewards, rel=0.005)
            for level in range(1, 6):
                of_level = {
                    r["step"]: 100 * r["levels"][level - 1]["pass_at_1"]["mean"]
                    for r in run.read(EVAL)
                    if r["name"] in ("base_validation", "validation")
                }
                assert points(page, f"Level {level}", letter) == pytest.approx(of_level, rel=0.005)

    def test_scores_before_and_after(self, url: str, root: Path, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        shown = [" ".join(row.split()) for row in page.locator(".scores tbody tr").all_inner_texts()]
        for name in (GRPO, EXPO):
            before, after = ({s["level"]: s for s in r["levels"]} for r in self._tests(root / name))
            for level, base in before.items():
                estimates = [e[k] for k in ("pass_at_1", "pass_at_k") for e in (base, after[level])]
                numbers = [f"{100 * e['mean']:.0f} [{100 * e['low']:.0f}, {100 * e['high']:.0f}]" for e in estimates]
                assert f"{level} " + " ".join(numbers) in shown

    @staticmethod
    def _tests(run: Path) -> list[dict[str, Any]]:
        return [record for record in RunDir(run).read(EVAL) if record["name"] in ("base_test", "test")]

    def test_levels_and_runs_can_be_left_out(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        page.locator("#run-levels").get_by_label("Level 1").uncheck()
        page.wait_for_function("document.querySelectorAll('#curves figure').length == 7")
        assert "Level 1" not in page.locator(".panels").inner_text()
        page.locator("#runs .token").filter(has_text=GRPO).locator(".token-remove").click()
        page.wait_for_function("document.querySelectorAll('.keys .key').length == 1")
        assert page.locator(".keys .name").all_inner_texts() == [EXPO]
        assert "Level 1" not in page.locator(".panels").inner_text()  # what was left out stays out

    def test_the_pointers_step_is_read_in_all_panels(self, url: str, root: Path, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        box = page.locator("#curves .live-plot").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.999, box["y"] + box["height"] / 2)
        read = page.locator(".readout").all_inner_texts()
        assert len(read) == 8 and len({text.split(":")[0] for text in read}) == 1 and read[0].startswith("step 6")
        last = RunDir(root / EXPO).read(METRICS)[-1]["failed_groups"]
        assert f" A {last} " in f"{read[6]} ".replace(" ·", " ")

    def test_a_samples_filters(self, url: str, root: Path, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        page.locator("#samples-run input").click()
        page.get_by_role("option", name=EXPO).click()
        records = RunDir(root / EXPO).read(SAMPLES)
        found(page, len(records))
        assert page.locator("#samples tr[data-row]").count() == 25
        page.get_by_label("explanations").check()
        explanations = [r for r in records if r["kind"] == "explanation"]
        found(page, len(explanations))
        page.locator("#samples-verdict").get_by_label("wrong").check()
        wrong = [r for r in explanations if r["verdict"] != "correct"]
        found(page, len(wrong))
        page.locator("#samples-text").locator("input, textarea").fill(wrong[0]["question"])
        asked = [r for r in wrong if r["question"] == wrong[0]["question"]]
        found(page, len(asked))
        first = page.locator("#samples tr[data-row]").first
        assert first.locator("td").first.inner_text().strip() == str(asked[0]["step"])
        first.click()
        page.locator("#sample .sample-text").wait_for()
        assert wrong[0]["question"] in page.locator("#sample").inner_text()
        written = asked[0]["text"].splitlines()[0]
        assert page.locator("#sample .sample-text").inner_text().splitlines()[0] == written

    def test_pages_turn_and_stop_at_the_ends(self, url: str, root: Path, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        total = len(RunDir(root / EXPO).read(SAMPLES))  # of two runs, the one that explains itself comes first
        pages = -(-total // 25)
        assert not page.locator("#samples-before").is_enabled()
        page.locator("#samples-after").click()
        page.locator("#samples-count", has_text=f"page 2 of {pages}").wait_for()
        assert page.locator("#samples tr[data-row]").first.get_attribute("data-row") == "26"
        page.locator("#samples-page input").fill("999")
        page.locator("#samples-page input").press("Enter")
        page.locator("#samples-count", has_text=f"page {pages} of {pages}").wait_for()
        assert page.locator("#samples tr[data-row]").count() == total - 25 * (pages - 1)
        assert page.locator("#samples-before").is_enabled() and not page.locator("#samples-after").is_enabled()

    def test_by_keyboard_alone(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        page.locator("#samples tr[data-row] button").first.focus()
        page.keyboard.press("Enter")
        page.locator("#sample .sample-text").wait_for()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_the_row_of_the_sample_beside_it_is_marked(self, url: str, visit: Callable[..., Any], scheme: str) -> None:
        page = visit(url, color_scheme=scheme)
        open_runs(page)
        row = page.locator("#samples tr[data-row]").nth(3)
        row.click()
        page.locator("#sample .sample-text").wait_for()
        page.mouse.move(0, 0)
        colours = page.locator("#samples tr[data-row] td:last-child").evaluate_all(
            "cells => cells.map(cell => getComputedStyle(cell).backgroundColor)"
        )
        assert colours[3] not in {*colours[:3], *colours[4:]} and len(set(colours)) == 2

    def test_no_score_is_cut_on_a_narrow_screen(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url, viewport={"width": 400, "height": 900})
        open_runs(page)
        sizes = page.locator(".scores .wide").evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert sizes[0] <= sizes[1]
        assert page.locator(".scores td[data-head='pass@1 after']").first.is_visible()

    def test_what_models_wrote_is_harmless(self, url: str, root: Path, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        page.locator("#samples-run input").click()
        page.get_by_role("option", name=GRPO).click()
        found(page, len(RunDir(root / GRPO).read(SAMPLES)))
        page.locator("#samples-text").locator("input, textarea").fill("evil.example")
        found(page, 1)
        page.locator("#samples tr[data-row]").first.click()
        page.locator("#sample .sample-text").wait_for()
        assert HOSTILE in page.locator("#sample .sample-text").inner_text()
        page.wait_for_timeout(300)
        assert page.evaluate("window.hurt") is None

    def test_without_runs_it_says_how_to_make_one(self, tmp_path: Path, visit: Callable[..., Any]) -> None:
        need_chromium()
        with serving("--root", str(tmp_path)) as empty:
            page = visit(empty)
            page.get_by_role("tab", name="Runs").click()
            page.locator("#runs-note", has_text="There are no runs yet").wait_for()
            assert "python -m expo_lite.train --preset tiny" in page.locator("#runs-note").inner_text()
            page.context.close()  # before its server goes


class TestFit:
    def test_the_plan_follows_the_budget(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_fit(page)
        asked = preset_values("8gb")
        for budget in (8, 6, 5):
            page.locator("#fit-budget input").fill(str(budget))
            expected = fit(replace(asked, budget_gib=float(budget)))
            page.locator("#fit-board .limits", has_text=f"budget {budget:.2f}").wait_for()
            board = page.locator("#fit-verdict").inner_text() + page.locator("#fit-board").inner_text()
            assert f"Generating {gib(expected.planned.plan.generation_peak)} GiB" in board
            assert f"Training {gib(expected.planned.plan.training_peak)} GiB" in board
            assert f"{expected.planned.units.rollouts_alive}\n" in board
            assert "✓ It fits" in board
            assert page.locator("#fit-command textarea").input_value() == expected.command

    def test_what_does_not_fit_says_what_would_and_that_does(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_fit(page)
        page.locator("#fit-new input").fill("16000")
        verdict = page.locator("#fit-verdict", has_text="It does not fit")
        verdict.wait_for()
        tokens = re.search(r"rollout\.max_new_tokens (\d+)", verdict.inner_text())
        assert tokens
        page.locator("#fit-new input").fill(tokens[1])
        page.locator("#fit-verdict", has_text="✓ It fits").wait_for()
        page.locator("#fit-new input").fill(str(int(tokens[1]) + 1))
        verdict.wait_for()

    def test_a_preset_fills_the_form_and_a_card_the_budget(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_fit(page)
        page.locator("#fit-preset input").click()
        page.get_by_role("option", name=re.compile("^24gb")).click()
        page.wait_for_function("document.querySelector('#fit-new input').value == '1536'")
        page.locator("#fit-card input").click()
        page.get_by_role("option", name=re.compile("RTX 4080")).click()
        page.locator("#fit-board", has_text="On the RTX 4080: about").wait_for()
        page.wait_for_function("document.querySelector('#fit-command textarea').value.includes('budget-gib 16')")
        expected = fit(replace(preset_values("24gb"), card="RTX 4080", budget_gib=16.0))
        assert f"about {expected.hours:.1f} h" in page.locator("#fit-board").inner_text()
        assert page.locator("#fit-command textarea").input_value() == expected.command

    def test_an_unknown_model_and_a_bad_value_are_sentences(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_fit(page)
        page.locator("#fit-model input").fill("some/unknown-model")
        page.locator("#fit-model input").press("Enter")
        page.locator("#fit-verdict", has_text="'some/unknown-model' is not known here").wait_for()
        page.locator("#fit-model input").fill("Qwen/Qwen3-4B")
        page.locator("#fit-model input").press("Enter")
        page.locator("#fit-verdict", has_text="Qwen/Qwen3-4B").wait_for()
        page.locator("#fit-group input").fill("1")
        page.locator("#fit-verdict", has_text="rollout.group_size: should be at least 2 (got 1)").wait_for()


class TestReading:
    @pytest.mark.parametrize("width", [400, 1600])
    def test_narrow_and_wide(self, url: str, visit: Callable[..., Any], width: int) -> None:
        page = visit(url, viewport={"width": width, "height": 900})
        for opened in (open_runs, open_fit):
            opened(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_every_input_has_a_name(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        for name in ("Runs, newest first", "Of the run", "With this text", "Page"):
            assert page.get_by_label(name).count() >= 1, name
        open_fit(page)
        for name in ("Start from a preset", "Card", "Budget (GiB)", "Longest completion", "LoRA rank"):
            assert page.get_by_label(name).count() >= 1, name


STOPS = """() => {
  const stop = document.activeElement, place = stop.getBoundingClientRect()
  const owner = stop.closest('[id]:not([id^="html-"])')
  return [owner ? owner.id : '', place.x + scrollX, place.y + scrollY]
}"""
SAME_ROW = 40
"""Pixels: labels of one or two lines stand above the fields of a row."""


def visited(page: Any, tab: str, last: str) -> list[tuple[str, float, float]]:
    """Where the Tab key goes from a tab's button on, up to the part `last`: part, left and top, one a part."""
    page.get_by_role("tab", name=tab).focus()
    found: list[tuple[str, float, float]] = []
    for _ in range(90):
        page.keyboard.press("Tab")
        part, left, top = page.evaluate(STOPS)
        # an open list that can be scrolled is a stop without a part, and the tabs' own buttons come first
        if part and part != "tabs" and part not in [name for name, _, _ in found]:
            found.append((part, left, top))
        if part == last:
            return found
    raise AssertionError(f"{last} was not reached, only {found}")


def in_reading_order(stops: list[tuple[str, float, float]]) -> None:
    for (name, left, top), (following, next_left, next_top) in pairwise(stops):
        below = next_top > top + SAME_ROW
        beside = abs(next_top - top) <= SAME_ROW and (next_left > left or next_top > top)
        assert below or beside, f"{following} comes after {name}"


class TestKeyboard:
    @pytest.mark.parametrize("width", [400, 1280])
    def test_runs_are_visited_in_reading_order(self, url: str, visit: Callable[..., Any], width: int) -> None:
        page = visit(url, viewport={"width": width, "height": 900})
        open_runs(page)
        stops = visited(page, "Runs", "samples-after")
        filters = ["samples-run", "samples-kind", "samples-verdict", "samples-levels", "samples-text"]
        table = ["samples", "samples-page", "samples-after"]  # there is no page before the first
        assert [name for name, _, _ in stops] == [
            "runs",
            "refresh-runs",
            "run-levels",
            "curves",
            "scores",
            *filters,
            *table,
        ]
        in_reading_order(stops)

    @pytest.mark.parametrize("width", [400, 1280])
    def test_the_plan_is_visited_in_reading_order(self, url: str, visit: Callable[..., Any], width: int) -> None:
        page = visit(url, viewport={"width": width, "height": 900})
        open_fit(page)
        stops = visited(page, "Will it fit?", "fit-command")
        fields = ["preset", "card", "budget", "model", "prompt", "new", "prompts", "group", "rank", "optimizer"]
        assert [name for name, _, _ in stops] == [f"fit-{name}" for name in [*fields, "checkpointing", "command"]]
        in_reading_order(stops)

    def test_runs_are_picked(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_runs(page)
        page.get_by_role("tab", name="Runs").focus()
        while not page.evaluate("document.activeElement.closest('#runs .token-remove')"):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('.keys .key').length == 1")
        assert page.locator(".keys .name").all_inner_texts() == [GRPO]
        while not page.evaluate("document.activeElement.matches('#runs input')"):
            page.keyboard.press("Tab")
        page.keyboard.type("ExPO")  # methods can be searched for, too
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelectorAll('.keys .key').length == 2")
        assert page.locator(".keys .name").all_inner_texts() == [GRPO, EXPO]

    def test_a_plan_is_changed(self, url: str, visit: Callable[..., Any]) -> None:
        page = visit(url)
        open_fit(page)
        page.get_by_role("tab", name="Will it fit?").focus()
        page.keyboard.press("Tab")
        page.keyboard.type("24gb")
        page.keyboard.press("Enter")
        page.locator("#fit-verdict", has_text=preset_values("24gb").model).wait_for()
        while not page.evaluate("document.activeElement.matches('#fit-budget input')"):
            page.keyboard.press("Tab")
        page.keyboard.press("Control+A")
        page.keyboard.type("16")
        page.locator("#fit-board .limits", has_text="budget 16.00").wait_for()


class TestScreenReaders:
    def test_what_is_announced_stays_while_its_text_changes(self, url: str, visit: Callable[..., Any]) -> None:
        """A live region that is replaced by another is often not read out."""
        page = visit(url)
        open_runs(page)
        page.evaluate("document.querySelector('#runs-note [role=status]').seen = true")
        assert page.evaluate("document.querySelector('#runs-note [role=status]').checkVisibility()")  # though empty
        for run in (EXPO, GRPO):
            page.locator("#runs .token").filter(has_text=run).locator(".token-remove").click()
        page.locator("#runs-note [role=status]", has_text="Pick a run to see its curves.").wait_for()
        assert page.evaluate("document.querySelector('#runs-note [role=status]').seen")
        page.reload()
        open_runs(page)
        page.evaluate("document.querySelector('#samples-count [role=status]').seen = true")
        page.locator("#samples-text").locator("input, textarea").fill("nobody wrote this")
        page.locator("#samples-count", has_text=re.compile(r"^\s*0 of ")).wait_for()
        assert page.evaluate("document.querySelector('#samples-count [role=status]').seen")
        open_fit(page)
        page.evaluate("document.querySelector('#fit-verdict [role=status]').seen = true")
        page.locator("#fit-budget input").fill("1")
        page.locator("#fit-verdict [role=status]", has_text="It does not fit").wait_for()
        assert page.evaluate("document.querySelector('#fit-verdict [role=status]').seen")
