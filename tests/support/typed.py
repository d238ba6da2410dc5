"""Command lines run one after the other as `python -m` would, in one process: `python typed.py LINE LINE ...`.

`app ARGUMENT ...` opens the app and presses Compare through its API. After `short of memory` the card's memory runs out
in the next training step.
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
        run_short_of_memory()
        return 0
    sys.argv = shlex.split(line)
    if sys.argv[0] == "app":
        return compared(sys.argv[1:])
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        say_what_was_recorded()


def say_what_was_recorded() -> None:
    """How many graphs there have been on the card that is not there; nothing where none."""
    import sitecustomize

    if recorded := len(sitecustomize.driver.streams.captures):
        print(f"{recorded} graphs recorded")


def run_short_of_memory() -> None:
    """In the next step memory runs out in the midst of its first decoding, and of its first update."""
    import sitecustomize

    from expo_lite.model.sampler import Sampler
    from expo_lite.training.step import Trainer
    from expo_lite.training.updater import Updater

    driver, plain_step = sitecustomize.driver, Trainer.step

    def short(plain: Any) -> Any:
        left = [1]

        def work(*args: Any, **kwargs: Any) -> Any:
            driver.refuse_after = 100 if left and left.pop() else None
            try:
                return plain(*args, **kwargs)
            finally:
                driver.refuse_after = None

        return work

    def step(*args: Any, **kwargs: Any) -> Any:
        plain = Sampler.sample, Updater.update, plain_step
        Sampler.sample, Updater.update, Trainer.step = short(plain[0]), short(plain[1]), plain_step  # type: ignore[method-assign]
        try:
            return plain_step(*args, **kwargs)
        finally:
            Sampler.sample, Updater.update, Trainer.step = plain  # type: ignore[method-assign]

    Trainer.step = step  # type: ignore[method-assign]


def compared(argv: list[str]) -> int:
    """Open the app and press Compare; 0 where base and trained model have answered and explained."""
    from gradio_client import Client

    from expo_lite.app.opening import read_options
    from expo_lite.commands.app import _launched, prepare

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
    # a note besides, where the tiny base is asked
    return 0 if set(found) - {"note"} == {"before", "explanation", "after"} else 1


if __name__ == "__main__":
    for line in sys.argv[1:]:
        print(f"$ {line}", flush=True)
        start = time.perf_counter()
        print(f"-> {typed(line)} after {time.perf_counter() - start:.0f} s", flush=True)
