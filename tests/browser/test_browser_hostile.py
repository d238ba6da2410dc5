"""What must hold whoever comes and however they look: rapid clicks, both colour schemes, and the app's ways in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import serving

from expo_lite.problems import tiny_world

if os.environ.get("CI"):
    import gradio_client  # a missing one fails
else:
    gradio_client = pytest.importorskip("gradio_client")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HARDEST = tiny_world.problems("test", 5, 8)
CLICKS = 50
CLICK = "([selector, times]) => { for (let n = 0; n < times; n++) document.querySelector(selector).click() }"
LEAST_CONTRAST = 4.5
"""Of text on its ground, as WCAG 2 (AA) asks of text of any size."""
FAINT = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
"""A function: how many texts a page shows, and those with too little contrast."""


class TestWaysIn:
    """The real app on a finished run: the hardest problems are wrong before and right after."""

    def compared(self, way: str, folder: Path, model: str) -> None:
        with serving(way, str(folder)) as url:
            client = gradio_client.Client(url, verbose=False)
            right = 0
            for problem in HARDEST:
                shown = client.predict(
                    question=problem.question, answer=problem.answer, model=model, greedy=True, seed=0,
                    api_name="/compare",
                )  # fmt: skip
                assert shown["before"]["correct"] is False
                right += shown["after"]["correct"]
                assert not shown["after"]["correct"] or shown["after"]["answer"] == problem.answer
            assert right >= len(HARDEST) / 2

    def test_run(self, trained_runs: Path) -> None:
        self.compared("--run", trained_runs / "tiny-trained", "tiny-trained")

    def test_adapter(self, trained_runs: Path) -> None:
        self.compared("--adapter", trained_runs / "tiny-trained" / "adapter", "adapter")


class TestRapidClicks:
    def test_will_it_fit(self, app_url: str, visit: Callable[..., Any]) -> None:
        page = visit(app_url)
        page.get_by_role("tab", name="Will it fit?").click()
        page.locator("#fit-board .stack").first.wait_for()
        for box, clicks in {"#fit-checkpointing input": CLICKS + 1, "#fit-optimizer input": CLICKS}.items():
            page.locator(box).first.wait_for(state="attached")
            page.evaluate(CLICK, [box, clicks])
        for number in range(CLICKS):
            page.locator("#fit-budget input").fill(str(5 + number % 7))
        page.locator("#fit-budget input").fill("23")
        page.locator("#fit-board .limits", has_text="budget 23.00").wait_for()
        command = page.locator("#fit-command textarea").input_value()
        assert "--memory.budget-gib 23" in command and "--policy.gradient-checkpointing" in command


class TestContrast:
    """In both colour schemes every text that is shown stands out from its ground."""

    @pytest.fixture(params=["light", "dark"])
    def page(self, request: pytest.FixtureRequest, app_url: str, visit: Callable[..., Any]) -> Any:
        return visit(app_url, color_scheme=request.param)

    def readable(self, page: Any, selector: str) -> None:
        page.wait_for_timeout(500)  # colours that change slowly
        looked_at, faint = page.evaluate(FAINT, [selector, LEAST_CONTRAST])
        assert looked_at > 0 and faint == []

    def test_compare(self, page: Any) -> None:
        self.readable(page, "body")
        page.get_by_label("Level 5").check()
        page.locator("#compare").click()
        page.locator("#status", has_text="Done.").wait_for()
        page.locator("#board .mark.right").first.wait_for()
        assert page.locator("#board .mark.wrong").count() > 0
        page.locator(".token-table summary").click()
        self.readable(page, "body")

    def test_likelihoods(self, page: Any) -> None:
        page.locator("#compare").click()
        page.locator(".reading .tok").first.wait_for()
        for band in ("sure", "likely", "unlikely", "alien"):
            page.evaluate(
                "band => document.querySelectorAll('.reading .tok').forEach(t => t.className = band)", f"tok {band}"
            )
            self.readable(page, ".reading")

    def test_runs(self, page: Any) -> None:
        page.get_by_role("tab", name="Runs").click()
        page.locator("#samples tr[data-row]").first.click()
        page.locator("#sample .sample-text").wait_for()
        for run in range(6):
            page.evaluate(
                "run => document.querySelectorAll('.r0').forEach(e => e.classList.replace('r0', run))", f"r{run}"
            )
            self.readable(page, "body")
            page.evaluate(
                "run => document.querySelectorAll('.' + run).forEach(e => e.classList.replace(run, 'r0'))", f"r{run}"
            )

    def test_will_it_fit(self, page: Any) -> None:
        page.get_by_role("tab", name="Will it fit?").click()
        page.locator("#fit-board .stack").first.wait_for()
        self.readable(page, "body")
        page.locator("#fit-new input").fill("16000")
        page.locator("#fit-verdict", has_text="It does not fit").wait_for()
        self.readable(page, "body")
        page.locator("#fit-new input").fill("-1")
        page.locator("#fit-verdict", has_text="Please check a value").wait_for()
        self.readable(page, "body")

    def test_train_live(self, page: Any) -> None:
        page.get_by_role("tab", name="Train live").click()
        page.locator("#train-progress", has_text="tiny-trained").wait_for()
        self.readable(page, "body")
