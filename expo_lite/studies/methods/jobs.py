"""Commands in processes of their own, several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expo_lite.core.errors import ExpoLiteError
from expo_lite.runs.stop import StopRequest

POLL_SECONDS = 0.1
LAST_LINES = 5


@dataclass(frozen=True)
class Job:
    """`python -m MODULE ARGUMENTS`, with everything it prints in `log`; `name` is for people."""

    name: str
    module: str
    arguments: tuple[str, ...]
    log: Path

    @property
    def command(self) -> list[str]:
        """The list that a process is started with; no shell reads it."""
        return [sys.executable, "-m", self.module, *self.arguments]


@dataclass
class Running:
    """A job under way."""

    job: Job
    process: subprocess.Popen[bytes]
    began: float


def run_all(
    jobs: Sequence[Job],
    at_once: int,
    done: Callable[[Job, float], None],
    note: Callable[..., None] = print,
    watch: Callable[[Sequence[Job]], None] = lambda running: None,
) -> None:
    """Run the jobs in order, `at_once` at a time; `done` hears of each that ended well, with its seconds.

    `watch` is told again and again which are under way.

    Where one fails, or Ctrl-C or SIGTERM comes, those under way are asked to stop and waited for: a training saves
    what it has; a second Ctrl-C asks them again, and a training then ends at once. `note` hears of the first. Raises
    ExpoLiteError with the failed job's last lines, or KeyboardInterrupt.
    """
    waiting, running = deque(jobs), list[Running]()
    stop = StopRequest()
    with stop.on_signal(note):
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    running.append(_start(waiting.popleft(), at_once))
                for ended in _ended(running):
                    _require_success(ended)
                    done(ended.job, time.monotonic() - ended.began)
                if stop.asked:
                    raise KeyboardInterrupt
                watch([one.job for one in running])
                time.sleep(POLL_SECONDS)
        finally:
            _stop(running)


def _start(job: Job, at_once: int) -> Running:
    # beside one another, jobs that all take every processor are slower than one after another
    share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // at_once))} if at_once > 1 else {}
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        # a session of its own: Ctrl-C reaches it once, through `_stop`, and not a second time from the terminal
        process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**share, **os.environ},
        )
    return Running(job, process, time.monotonic())


def _ended(running: list[Running]) -> Iterator[Running]:
    """Those that have ended, taken out of `running`."""
    for one in [one for one in running if one.process.poll() is not None]:
        running.remove(one)
        yield one


def _require_success(ended: Running) -> None:
    if status := ended.process.returncode:
        lines = ended.job.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:]
        said = "\n".join(lines)
        raise ExpoLiteError(f"{' '.join(ended.job.command[1:])}\nended with status {status} ({ended.job.log}):\n{said}")


def _stop(running: Sequence[Running]) -> None:
    """Ask all to stop, and wait until they have."""
    try:
        _signal(running)
        _wait(running)
    except KeyboardInterrupt:  # the second one
        _signal(running)
        _wait(running)
        raise


def _signal(running: Sequence[Running]) -> None:
    for one in running:
        one.process.send_signal(signal.SIGTERM)


def _wait(running: Sequence[Running]) -> None:
    for one in running:
        one.process.wait()
