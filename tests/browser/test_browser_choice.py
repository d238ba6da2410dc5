"""Which trained model Compare shows, in a real Chromium: the one that was asked for, and one trained meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import need_chromium, serving
from safetensors.torch import load_file, save_file

from expo_lite.runs.folder import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ABLE, EMPTY = "tiny-able", "tiny-empty"
SAME_AS_BEFORE = "after is the same as before"


def add_run(trained_runs: Path, root: Path, name: str) -> Path:
    """The finished run under another name."""
    shutil.copytree(trained_runs / "tiny-trained", root / name)
    return root / name


@pytest.fixture(scope="module")
def two_url(trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on two finished runs: the newer one's adapter is all zeros, so that it answers as the base does."""
    need_chromium()
    root = tmp_path_factory.mktemp("two-models")
    add_run(trained_runs, root, ABLE)
    newer = RunDir(add_run(trained_runs, root, EMPTY))
    weights = newer.adapter / "adapter_model.safetensors"
    save_file({name: 0 * tensor for name, tensor in load_file(weights).items()}, weights)
    newer.status(60, state="finished")
    with serving("--root", str(root)) as url:
        yield url


def after(page: Any) -> Any:
    return page.locator("#board .card.after")


def titled(name: str) -> str:
    """A run as it is chosen: with its method."""
    return f"{name} · ExPO"


def shows_model(page: Any, words: str) -> None:
    page.wait_for_function("words => document.querySelector('#model input')?.value == words", arg=words)


def choose(page: Any, field: str, option: str) -> None:
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def go_to(page: Any, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()


def compared(page: Any) -> str:
    """Press Compare; what stands in the third card."""
    page.locator("#status .status").evaluate("line => line.textContent = ''")
    page.locator("#compare").click()
    page.locator("#status", has_text="Done.").wait_for()
    return str(after(page).inner_text())


def test_compare_before_and_after_is_of_the_run_on_the_screen(two_url: str, visit: Callable[..., Any]) -> None:
    page = visit(two_url)
    page.get_by_text("Settings").click()
    shows_model(page, titled(EMPTY))
    shown = compared(page)
    assert "✗ wrong" in shown and EMPTY in shown
    go_to(page, "Train live")
    choose(page, "train-run", titled(ABLE))
    page.locator("#train-progress", has_text=ABLE).wait_for()
    page.locator("#train-compare").click()
    shows_model(page, titled(ABLE))
    shown = compared(page)
    assert "✓ right" in shown and ABLE in shown
    choose(page, "model", titled(EMPTY))  # chosen later than the button was pressed: it stays
    go_to(page, "Runs")
    go_to(page, "Compare")
    page.wait_for_timeout(500)
    shows_model(page, titled(EMPTY))


def test_the_base_alone_stays_chosen(two_url: str, visit: Callable[..., Any]) -> None:
    page = visit(two_url)
    page.get_by_text("Settings").click()
    shows_model(page, titled(EMPTY))
    assert SAME_AS_BEFORE not in after(page).inner_text()
    choose(page, "model", "none: the base alone")
    after(page).get_by_text(SAME_AS_BEFORE).wait_for()
    go_to(page, "Runs")
    go_to(page, "Compare")
    page.wait_for_timeout(500)
    shows_model(page, "none: the base alone")
    assert SAME_AS_BEFORE in compared(page)


def test_another_models_run_cannot_be_compared(trained_runs: Path, tmp_path: Path, visit: Callable[..., Any]) -> None:
    """The app has one base; a run of other LoRA shapes does not fit it."""
    need_chromium()
    config = add_run(trained_runs, tmp_path, "tiny-other") / "config.yaml"
    config.write_text(config.read_text().replace("lora_rank: 16", "lora_rank: 8"))
    with serving("--root", str(tmp_path)) as url:
        page = visit(url)
        go_to(page, "Train live")
        page.locator("#train-progress", has_text="Finished: step 60 of 60").wait_for()
        assert page.locator("#train-compare:visible").count() == 0
        page.context.close()  # before its server goes


def test_what_was_trained_meanwhile_is_found(trained_runs: Path, tmp_path: Path, visit: Callable[..., Any]) -> None:
    """Both after a reload and when the tab is opened again; nothing says any more that nothing is trained."""
    need_chromium()
    with serving("--root", str(tmp_path)) as url:
        pages = [visit(url), visit(url)]
        for page in pages:
            after(page).get_by_text(SAME_AS_BEFORE).wait_for()
            page.locator("#train-one").wait_for()
        add_run(trained_runs, tmp_path, ABLE)
        pages[0].reload()
        go_to(pages[1], "Runs")
        go_to(pages[1], "Compare")
        for page in pages:
            after(page).get_by_text("Here the trained model tries").wait_for()
            assert SAME_AS_BEFORE not in page.locator("#board").inner_text()
            assert page.locator("#train-one:visible").count() == 0
            assert ABLE in compared(page)
            page.context.close()  # before its server goes
