"""How fast the app answers, and what it costs idle, in one run: `python benchmarks/app.py` (a few minutes on the CPU).

Needs the extras `app` and `dev`, and Chromium. It shows the tiny preset, trained for a few steps.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.browsing import FIRST_TOKEN, TABS, chromium, cpu_seconds, started

SMALL = ("--data.test-problems", "8", "--data.validation-problems", "8")
TRAIN = (sys.executable, "-m", "expo_lite.train", "--preset", "tiny", *SMALL)
ENOUGH_STEPS = "100000"  # it is ended when everything is measured
SECONDS_TO_SETTLE = 3


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="presses, and openings of the page (10)")
    parser.add_argument("--idle-seconds", type=float, default=10, help="for each tab (10)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        root = Path(folder) / "runs"
        subprocess.run([*TRAIN, "--steps", "5", "--run", str(root / "tiny")], check=True, stdout=subprocess.DEVNULL)
        with started("--root", str(root)) as (url, process):
            usable = openings(browser, url, given.times)
            alone = presses(browser, url, given.times)
            idle = idling(browser, url, process, given.idle_seconds)
            with training(Path(folder) / "other"):
                beside = presses(browser, url, given.times)
    print("| | budget | median | worst | measured |\n|---|---|---|---|---|")
    for name, budget, unit, values in (
        ("first token after the press", 1, "s", alone),
        ("the same while the tiny preset trains", 3, "s", beside),
        ("page usable after opening it", 3, "s", usable),
        ("CPU of the idle app, all tabs visited, each in front", 5, "% of a core", idle),
    ):
        row = [f"{median(values):.2f} {unit}", f"{max(values):.2f} {unit}", f"{len(values)} times"]
        print(f"| {name} | < {budget} {unit} | {' | '.join(row)} |")


def openings(browser: Any, url: str, times: int) -> list[float]:
    """Seconds from asking for the page, with an empty cache, until a first click on it has shown its effect."""
    seconds = []
    for _ in range(times):
        page = browser.new_context().new_page()
        start = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.get_by_label("Level 5").check()
        page.wait_for_function("document.querySelector('#question textarea').value.split('+').length == 6")
        seconds.append(time.perf_counter() - start)
        page.context.close()
    return seconds


def presses(browser: Any, url: str, times: int) -> list[float]:
    """Seconds from pressing Compare to the first token on the page, each time for another question."""
    page, seconds = browser.new_page(), []
    page.goto(url)
    page.locator("#compare").wait_for()
    for _ in range(times):
        seconds.append(page.evaluate(FIRST_TOKEN))
        page.locator("#status", has_text="Done.").wait_for()
        page.locator("#clear").click()
        page.locator("#board .card.empty").nth(2).wait_for()
        page.locator("#another").click()
        page.wait_for_function("document.querySelector('#question textarea').value != ''")
    page.close()
    return seconds


def idling(browser: Any, url: str, process: subprocess.Popen[bytes], seconds: float) -> list[float]:
    """Per cent of a core that the app takes, one page open with all tabs visited, with each of them in front."""
    page = browser.new_page()
    page.goto(url)
    visit_all(page)
    shares = []
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(1000 * SECONDS_TO_SETTLE)
        before, start = cpu_seconds(process), time.perf_counter()
        page.wait_for_timeout(1000 * seconds)
        shares.append(100 * (cpu_seconds(process) - before) / (time.perf_counter() - start))
    page.close()
    return shares


def visit_all(page: Any) -> None:
    """Open each tab once, the last first in line again."""
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(1000 * SECONDS_TO_SETTLE)


@contextmanager
def training(run: Path) -> Iterator[None]:
    """The tiny preset in training, from its first finished step on."""
    command = [*TRAIN, "--steps", ENOUGH_STEPS, "--run", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    try:
        while not (metrics.is_file() and metrics.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"the training ended with status {process.returncode}")
            time.sleep(0.5)
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
