"""The app in a process of its own, and a Chromium to open it in: for the tests, the benchmark and the screenshots."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SECONDS_TO_OPEN = 300
TABS = ("Compare", "Train live", "Runs", "Will it fit?")

FIRST_TOKEN = """() => new Promise(done => {
    const start = performance.now();
    new MutationObserver((_, observer) => {
        if (document.querySelector('#board .card.writing, #board .card.wrong')) {
            observer.disconnect();
            done((performance.now() - start) / 1000);
        }
    }).observe(document.body, {subtree: true, childList: true, attributes: true});
    document.querySelector('#compare').click();
})"""
"""Run on an empty board: press Compare; the seconds until something is written, without the test driver's own."""


def chromium_path() -> str | None:
    """The Chromium or Chrome of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """One headless Chromium that asks nobody for anything by itself."""
    from playwright.sync_api import sync_playwright  # late: what starts apps only does not need it

    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=chromium_path(), args=quiet)
        yield opened
        opened.close()


@contextmanager
def started(
    *argv: str, program: Path = REPOSITORY / "app.py", at: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`python app.py` on a free port, run in the folder `at`; gives its address and its process.

    Raises RuntimeError if it does not open.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, str(program), "--port", port, *argv], cwd=at)
    url = f"http://127.0.0.1:{port}/"
    try:
        _wait_until_open(url, process)
        yield url, process
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def serving(*argv: str, program: Path = REPOSITORY / "app.py", at: Path | None = None) -> Iterator[str]:
    """Like `started`, for those who only want the address."""
    with started(*argv, program=program, at=at) as (url, _):
        yield url


def _wait_until_open(url: str, process: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + SECONDS_TO_OPEN
    while time.monotonic() < last:
        if process.poll() is not None:
            raise RuntimeError(f"the app ended with status {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the app did not open within {SECONDS_TO_OPEN} s")


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What a process and its children have had of the processor so far."""
    import psutil

    own = psutil.Process(process.pid)
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(t.user + t.system for t in times)
