"""Trainings as processes of their own: started, found again and stopped. Imports neither torch nor gradio.

The run's folder is the only register. Its lock file names the process from the first moment on, so that a page that
is opened later, or another app on the same root, finds what is running there.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expo_lite.app.places import lies_in, without_places
from expo_lite.app.train.process import LOCK, last_pid, trains
from expo_lite.config.flags import as_flags
from expo_lite.config.methods import METHODS
from expo_lite.core.errors import DataError, ExpoLiteError
from expo_lite.runs import files
from expo_lite.runs.folder import RunDir

PROGRAM = (sys.executable, "-m", "expo_lite.train")
NICENESS = 10
"""Who compares should not have to wait for who trains, where they share the processor."""
LOG_BYTES, LOG_LINES = 20_000, 12
ENDED = {"finished", "stopped", "failed"}


@dataclass(frozen=True)
class TrainRequest:
    """A checked wish: a preset's name, a method's short name and a seed."""

    preset: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """What the run is called, if that is still free."""
        return f"{self.preset}-{self.method}-seed{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """What is set over the preset, by dotted name."""
        return {**METHODS[self.method].beside_defaults, "seed": self.seed}

    def arguments(self, folder: Path) -> list[str]:
        """What `expo_lite.train` is told."""
        return ["--preset", self.preset, *as_flags(self.settings), "--run", str(folder)]


def command_line(arguments: Sequence[str]) -> str:
    """The command as a person would type it; it is run with the app's own Python and without a shell."""
    return shlex.join(["python", *PROGRAM[1:], *arguments])


class Trainings:
    """The trainings below a root, one at a time. May be used from any thread, and by several apps on one root."""

    def __init__(self, root: Path, program: Sequence[str] = PROGRAM) -> None:
        self.root = root
        self._program = program
        self._turn = threading.RLock()  # for whatever starts, stops or asks after a process
        self._child: subprocess.Popen[bytes] | None = None
        self._child_name = ""

    def fresh_name(self, asked: TrainRequest) -> str:
        """The run's name, with a number where it is taken."""
        names = [asked.name, *(f"{asked.name}-{n}" for n in range(2, 10_000))]
        return next(name for name in names if not os.path.lexists(self.root / name))

    def start(self, asked: TrainRequest) -> str:
        """Begin a new run; its name. Raises ExpoLiteError if one is running already."""
        with self._turn:
            self._refuse_a_second()
            name = self.fresh_name(asked)
            try:
                (self.root / name).mkdir(parents=True)
            except OSError as error:
                raise ExpoLiteError(f"No run can be written to the folder of runs ({error.strerror}).") from None
            self._launch(name, asked.arguments(self.root / name), "wb")
        return name

    def resume(self, name: str) -> None:
        """Go on with a run that has ended early. Raises ExpoLiteError if one is running, DataError if there is none."""
        with self._turn:
            self._refuse_a_second()
            if not RunDir(self._folder(name)).config.is_file():
                raise DataError(f"There is no run {name[:80]!r} to go on with.")
            self._launch(name, ["--resume", "--run", str(self.root / name)], "ab")

    def stop(self, name: str) -> None:
        """Ask a run to save and end after the step under way; once, whoever asks again.

        Raises DataError if it is not running, ExpoLiteError if it is another user's.
        """
        with self._turn:
            pid = self.running(name)
            if pid is None:
                raise DataError(f"{name[:80]!r} is not running.")
            try:
                # The note's file can be made once: the second signal would end the run at once, without saving.
                self._stop_note(name, pid).touch(exist_ok=False)
                os.kill(pid, signal.SIGTERM)
            except (FileExistsError, ProcessLookupError):
                return  # stopping already, or it has just ended by itself
            except OSError as error:
                raise ExpoLiteError(f"{name[:80]} cannot be stopped from here ({error.strerror}).") from None

    def active(self) -> str | None:
        """The name of the run that is being trained, if any."""
        with self._turn:
            if self._living_child() is not None:
                return self._child_name
            folders = self.root.iterdir() if self.root.is_dir() else ()
            return next((folder.name for folder in folders if self.running(folder.name) is not None), None)

    def running(self, name: str) -> int | None:
        """The process that trains this run, if any."""
        with self._turn:
            child = self._living_child()
            if child is not None and name == self._child_name:
                return child.pid
            pid = self.last_pid(name)
            if pid is None or self._has_ended(name, pid) or not trains(pid, self.root / name):
                return None
            return pid

    def was_told_to_stop(self, name: str) -> bool:
        """Whether the last process that worked on the run was stopped from an app, or is about to end for that."""
        try:
            pid = self.last_pid(name)
            notes = self._stop_notes(name)
        except DataError:
            return False
        return bool(notes) if pid is None else self._stop_note(name, pid) in notes

    def has_trace(self, name: str) -> bool:
        """Whether there is a run of that name, or the log of one that could not start."""
        try:
            return RunDir(self._folder(name)).config.is_file() or self.log(name).is_file()
        except DataError:
            return False

    def last_words(self, name: str) -> str:
        """The end of what the run's last process printed, without the places that it names."""
        log = self.log(name)
        if not log.is_file() or log.is_symlink():
            return ""
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
        printed = text.rpartition("$ python ")[2].splitlines()[1:]
        return without_places("\n".join(line for line in printed[-LOG_LINES:] if line.strip()), self.root)

    def log(self, name: str) -> Path:
        """Beside the run's folder, since that is removed again if the run cannot start."""
        return self._folder(name).with_name(f"{name}.log")

    def _folder(self, name: str) -> Path:
        """Raises DataError for what is no name of a folder directly below the root."""
        is_name = bool(name) and name == Path(name).name and name not in (".", "..") and "\0" not in name
        if not is_name or not lies_in(self.root, name):
            raise DataError(f"There is no run {name[:80]!r}.")
        return self.root / name

    def _stop_note(self, name: str, pid: int) -> Path:
        """Beside the run's folder, for all apps to see: this process has been told to stop."""
        return self._folder(name).with_name(f".{name}.stop-{pid}")

    def _stop_notes(self, name: str) -> list[Path]:
        """Those of the run's last process, and of earlier ones that were not begun by an app."""
        return list(self.root.glob(f".{glob.escape(self._folder(name).name)}.stop-*"))

    def _refuse_a_second(self) -> None:
        if os.name == "nt":
            raise ExpoLiteError("Windows has no gentle way to stop a training: copy the command into a terminal.")
        if (other := self.active()) is not None:
            raise ExpoLiteError(f"{other} is being trained, and there is room for one at a time: stop it first.")

    def _launch(self, name: str, arguments: Sequence[str], mode: str) -> None:
        folder = self.root / name
        for note in self._stop_notes(name):  # its processes have ended, and their numbers may come back
            note.unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
        try:
            with open(self.log(name), mode) as log:
                log.write(f"$ {command_line(arguments)}\n".encode())
                log.flush()
                child = subprocess.Popen(
                    [*self._program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,  # it outlives the app, and the app's Ctrl-C is not its own
                )
        except OSError as error:
            self._forget_empty(name)
            raise ExpoLiteError(f"The training could not be started ({error.strerror}).") from None
        self._child, self._child_name = child, name
        with contextlib.suppress(OSError):  # it may have ended already, and removed its folder
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
            (folder / LOCK).write_text(f"{child.pid}\n", encoding="ascii")

    def _living_child(self) -> subprocess.Popen[bytes] | None:
        """What this app has started, for as long as it lives."""
        if self._child is not None and self._child.poll() is not None:
            self._child = None
            self._forget_empty(self._child_name)
        return self._child

    def _forget_empty(self, name: str) -> None:
        """Remove the folder of a run that did not get as far as its configuration."""
        folder = self.root / name
        if folder.is_dir() and all(entry.name == LOCK for entry in folder.iterdir()):
            files.remove(folder)

    def last_pid(self, name: str) -> int | None:
        """The process that was the last to work on the run, if its folder names one."""
        try:
            return last_pid(self._folder(name))
        except DataError:
            return None

    def _has_ended(self, name: str, pid: int) -> bool:
        """Whether that process itself has said so: its number may be another's by now."""
        try:
            status = RunDir(self.root / name).read_status()
        except DataError:
            return False
        return status.get("pid") == pid and status.get("state") in ENDED
