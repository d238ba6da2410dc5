"""Make the app's screenshots anew: `python docs/make_screenshots.py` (needs the extras `app` and `dev`, and Chromium).

It shows the runs of the tiny preset in --root; if there are none, it trains one with ExPO and one with GRPO there.
`--only runs fit` takes the pictures whose names begin so.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.browsing import REPOSITORY, chromium, serving

TALLEST = {1280: 1700, 400: 1720}
"""Pixels of a picture by its width: what comes below is more of the same."""


def compare(page: Any) -> None:
    """The Compare tab with a finished comparison."""
    page.locator("#compare").click()
    page.locator("#status", has_text="Done.").wait_for()
    page.locator(".reading").first.wait_for()


def train_live(page: Any) -> None:
    """The Train live tab with the newest run."""
    page.get_by_role("tab", name="Train live").click()
    page.locator("#train-charts [role=img]").first.wait_for()


def runs(page: Any) -> None:
    """The Runs tab with runs side by side."""
    page.get_by_role("tab", name="Runs").click()
    page.locator("#samples tr[data-row]").first.wait_for()


def fit(page: Any) -> None:
    """The plan of a preset."""
    page.get_by_role("tab", name="Will it fit?").click()
    page.locator("#fit-board .stack").first.wait_for()


SHOTS: list[tuple[str, int, str, Callable[[Any], None]]] = [
    ("compare-light", 1280, "light", compare),
    ("compare-dark", 1280, "dark", compare),
    ("compare-narrow", 400, "light", compare),
    ("train-light", 1280, "light", train_live),
    ("train-dark", 1280, "dark", train_live),
    ("train-narrow", 400, "light", train_live),
    ("runs-light", 1280, "light", runs),
    ("runs-dark", 1280, "dark", runs),
    ("runs-narrow", 400, "dark", runs),
    ("fit-light", 1280, "light", fit),
    ("fit-dark", 1280, "dark", fit),
    ("fit-narrow", 400, "light", fit),
]
"""File name, width in pixels, colour scheme, and what to do on the page before the picture is taken."""


def main() -> None:
    """Take every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="runs", help="the folder of runs")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images")
    parser.add_argument("--only", nargs="*", default=[""], help="how the names of the pictures begin")
    given = parser.parse_args()
    root = Path(given.root).resolve()
    if not list(root.glob("*/adapter")):
        for method, source in (("grpo", "none"), ("expo", "self")):
            run = str(root / f"tiny-{method}-seed0")
            command = [sys.executable, "-m", "expo_lite.train", "--preset", "tiny", "--run", run]
            subprocess.run([*command, "--explanation.source", source], check=True)
    # started beside its runs, so that no path of this machine is in a picture
    with serving("--root", root.name, at=root.parent) as url, chromium() as browser:
        for name, width, scheme, prepare in SHOTS:
            if not name.startswith(tuple(given.only)):
                continue
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.goto(url)
            page.locator("#compare").wait_for()
            prepare(page)
            page.mouse.move(0, 0)
            page.wait_for_timeout(1000)  # transitions and fonts
            height = min(TALLEST[width], page.evaluate("document.documentElement.scrollHeight"))
            part = {"x": 0, "y": 0, "width": width, "height": height}
            page.screenshot(path=given.out / f"{name}.png", full_page=True, clip=part)
            page.close()


if __name__ == "__main__":
    main()
