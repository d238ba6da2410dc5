"""Command lines run one after the other as `python -m` would, in one process: `python typed.py LINE LINE ...`.

`app ARGUMENT ...` opens the app and presses Compare through its API. After `short of memory` the card refuses, during
steps, whatever is as large as the largest allocation of the steps before.
"""

from __future__ import annotations

import runpy
import shlex
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[2])


def typed(line: str) -> int:
    """The exit status of `expo_lite.NAME ARGUMENT ...`."""
    if line == "short of memory":
        Steps.short = True
        return 0
    sys.argv = shlex.split(line)
    if sys.argv[0] == "expo_lite.train":
        watch_steps()
    if sys.argv[0] == "app":
        return compared(sys.argv[1:])
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ended:
        return int(ended.code or 0)


class Steps:
    """What every step has taken at once so far, in bytes, and whether the next may not."""

    largest = 0
    short = False
    watched = False


def watch_steps() -> None:
    """Wrap the training step, once."""
    import sitecustomize

    from expo_lite.trainer import Trainer

    driver, step = sitecustomize.driver, Trainer.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        driver.largest, driver.refuse_above = 0, Steps.largest * 6 // 10 if Steps.short else None
        try:
            return step(*args, **kwargs)
        finally:
            Steps.largest, driver.refuse_above = min(Steps.largest or driver.largest, driver.largest), None

    if not Steps.watched:
        Trainer.step, Steps.watched = watched, True  # type: ignore[method-assign]


def compared(argv: list[str]) -> int:
    """Open the app and press Compare; 0 where base and trained model have answered and explained."""
    from gradio_client import Client

    from expo_lite.app import _launched, prepare
    from expo_lite.ui.ways_in import read_options

    options = read_options(argv)
    asked = {"question": "How many are 7?", "answer": "3", "model": next(iter(options.opening.adapters()))}
    app = prepare(options)
    try:
        here, _ = _launched(app)
        found = Client(here, verbose=False).predict(**asked, greedy=False, seed=0, api_name="/compare")
    finally:
        app.page.close()
        app.worker.close()
    print(found)
    return 0 if set(found) == {"before", "explanation", "after"} else 1


if __name__ == "__main__":
    for line in sys.argv[1:]:
        print(f"$ {line}", flush=True)
        start = time.perf_counter()
        print(f"-> {typed(line)} after {time.perf_counter() - start:.0f} s", flush=True)
