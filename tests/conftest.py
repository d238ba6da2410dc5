"""What tests share: those marked gpu skip themselves on a machine without one; a browser, and an app to open in it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import browsing
from benchmarks.browsing import chromium_path, serving
from expo_lite.problems import load


def pytest_configure(config: pytest.Config) -> None:
    """Where tests run side by side (-n), torch, which is imported later, takes one thread in each process."""
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch  # late: the tests of configuration and run folders need none

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


@pytest.fixture(scope="module")
def few_tiny_problems() -> Iterator[None]:
    """For tests of what a run does, not of what it learns: 40 training problems of each level instead of 2,000.

    Their prompts are rendered and measured before each run. Not for modules that hand a run to another process.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "TRAIN_PROBLEMS", 40)
        yield


# ------------------------------------------------------------- the app in a real browser (tests/test_browser*.py, slow)


def need_chromium() -> None:
    """Without a browser to test with, tests skip themselves, but under CI they fail."""
    playwright = importlib.util.find_spec("playwright")
    missing = "Chromium" if chromium_path() is None else "playwright" if playwright is None else None
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} is not installed: the app cannot be tested in a browser")
    if missing:
        pytest.skip(f"{missing} is not installed")


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with one finished tiny run that solves hard problems (about a minute on one core)."""
    root = tmp_path_factory.mktemp("runs")
    small = ["--data.test-problems", "8", "--data.validation-problems", "8", "--evaluation.every", "60"]
    command = [sys.executable, "-m", "expo_lite.train", "--preset", "tiny", "--steps", "60", *small]
    subprocess.run([*command, "--run", str(root / "tiny-trained")], check=True, capture_output=True, timeout=600)
    return root


@pytest.fixture(scope="session")
def app_url(trained_runs: Path) -> Iterator[str]:
    """The app with a trained tiny model."""
    need_chromium()
    with serving("--root", str(trained_runs)) as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless Chromium."""
    need_chromium()
    with browsing.chromium() as opened:
        yield opened


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages, each a user of its own. In the end none may have had an error, or have asked another host."""
    contexts, faults = [], []

    def opened(url: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(f"page: {error}"))
        here = (url, "data:", "blob:", url.replace("http", "ws", 1))
        page.on("request", lambda r: None if r.url.startswith(here) else faults.append(f"outside: {r.url}"))
        page.goto(url)
        page.locator("#compare").wait_for()
        return page

    yield opened
    for context in contexts:
        for page in context.pages:  # what a route's handler raises on a closed page would fail the next test
            page.unroute_all(behavior="ignoreErrors")
        context.close()
    assert faults == []
