"""A run's folder: where everything is, who may write it, and what to keep when a run is resumed.

The trainer writes a run through this, and the app reads one through this; imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from expo_lite.config.read import CONFIG_FILE
from expo_lite.core.errors import CheckpointError, DataError
from expo_lite.core.locks import is_held
from expo_lite.runs import files
from expo_lite.runs.lock import RunLock
from expo_lite.runs.records import eval_fault, metrics_fault, samples_fault

METRICS, SAMPLES, EVAL = RECORDS = "metrics.jsonl", "samples.jsonl", "eval.jsonl"
FAULTS = {METRICS: metrics_fault, SAMPLES: samples_fault, EVAL: eval_fault}
ADAPTER_DIGEST = "adapter_sha256"
"""In the records of validations after which the adapter was saved: the digest of its weights."""
_LOCK = ".lock"
_STEP = re.compile(r"step_(\d{6,})")


class RunDir:
    """The paths of a run's folder, its writers and its readers.

    `RunDir(path)` only looks; `create` and `open` also lock the folder for this process, until `close`.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path).expanduser()
        self._clock = clock
        self._lock: RunLock | None = None

    @classmethod
    def create(cls, path: str | Path, config_yaml: str, clock: Callable[[], float] = time.time) -> RunDir:
        """Make and lock a new run's folder, and write its config.yaml.

        Raises:
            CheckpointError: the folder cannot be made, is in use, or already holds something.
        """
        run = cls(path, clock)
        with _reported(f"{run.path} cannot be used as a run's folder"):
            if not (run.path / _LOCK).exists():  # not a run's: put nothing into it before looking
                run._refuse_if_filled()
            run.path.mkdir(parents=True, exist_ok=True)
            run._lock = RunLock(run.path / _LOCK)
            try:
                run._refuse_if_filled()
                run.write_text(run.config.name, config_yaml)
            except BaseException:
                run.close()
                raise
        return run

    @classmethod
    def open(cls, path: str | Path, clock: Callable[[], float] = time.time) -> RunDir:
        """Lock the folder of an earlier run, to resume it; unfinished files and checkpoints are removed.

        Raises:
            CheckpointError: there is no run in the folder, or it is in use.
        """
        run = cls(path, clock)
        if not run.config.is_file():
            raise CheckpointError(f"{run.path} holds no run to resume; leave --resume out to start one there")
        for folder in (run._checkpoints, run.adapter):
            if folder.exists() and not folder.is_dir():
                raise CheckpointError(f"{folder} is a file, but should be a folder; move it elsewhere to resume")
        with _reported(f"{run.path} cannot be resumed"):
            run._lock = RunLock(run.path / _LOCK)
            for folder in (run.path, run._checkpoints):
                for leftover in folder.glob(files.PARTIAL + "*"):
                    files.remove(leftover)
        return run

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def discard(self) -> None:
        """Remove the folder of a run that could not start, so that the mended command finds its place free."""
        files.remove(self.path)
        self.close()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _refuse_if_filled(self) -> None:
        if self.path.is_dir():
            if any(entry.name != _LOCK for entry in self.path.iterdir()):
                raise CheckpointError(f"{self.path} already exists; continue it with --resume, or choose another --run")
        elif self.path.exists():
            raise CheckpointError(f"{self.path} is a file; choose another --run")

    # Paths

    @property
    def config(self) -> Path:
        """The resolved configuration, as `--config` reads it."""
        return self.path / CONFIG_FILE

    @property
    def environment(self) -> Path:
        """Versions and hardware."""
        return self.path / "environment.json"

    @property
    def adapter(self) -> Path:
        """The final adapter, as PEFT loads it."""
        return self.path / "adapter"

    @property
    def curves(self) -> Path:
        """The picture of the learning curves."""
        return self.path / "learning_curves.png"

    @property
    def readme(self) -> Path:
        """The model card."""
        return self.path / "README.md"

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after `step` steps is, or will be."""
        return self._checkpoints / f"step_{step:06d}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """The complete checkpoints with their steps, oldest first."""
        entries = self._checkpoints.iterdir() if self._checkpoints.is_dir() else ()
        found = ((_STEP.fullmatch(entry.name), entry) for entry in entries)
        return sorted((int(match[1]), entry) for match, entry in found if match)

    def set_aside(self, checkpoint: Path) -> Path:
        """Rename a damaged checkpoint, so that it is none any more but nothing of it is lost; its new place."""
        place, number = checkpoint.with_name(f"damaged-{checkpoint.name}"), 1
        while place.exists():
            number += 1
            place = checkpoint.with_name(f"damaged-{checkpoint.name}-{number}")
        checkpoint.rename(place)
        return place

    # Writing

    def _inside(self, path: str | Path) -> Path:
        """A name within the folder, or one of the paths above (which may be relative, as the folder is)."""
        return Path(path) if Path(path).is_relative_to(self.path) else self.path / path

    def append(self, name: str, *records: Mapping[str, Any]) -> None:
        """Add records to metrics.jsonl, samples.jsonl or eval.jsonl, in one write."""
        files.append_jsonl(self.path / name, records)

    def write_text(self, path: str | Path, text: str) -> None:
        """Replace a file of the run, atomically."""
        files.write_text(self._inside(path), text)

    def write_json(self, path: str | Path, value: Any) -> None:
        """Replace a JSON file of the run, atomically."""
        files.write_text(self._inside(path), files.to_json(value, indent=2) + "\n")

    def staged(self, target: Path) -> contextlib.AbstractContextManager[Path]:
        """A folder to fill, such as a checkpoint or the adapter; it becomes `target` once it is complete."""
        return files.staged(target)

    def settle_records(self) -> dict[str, int]:
        """Wait until all records are on the disk, before a checkpoint says that they are; their bytes by file."""
        paths = [path for name in RECORDS if (path := self.path / name).is_file()]
        for path in paths:
            files.sync(path)
        return {path.name: path.stat().st_size for path in paths}

    def status(self, step: int, **fields: Any) -> None:
        """Say where the run is: its step, the time (seconds since 1970) and `fields`; replaces what was said before."""
        record = {"step": step, "heartbeat": self._clock(), "pid": os.getpid(), **fields}
        # not durable: nobody asks for the last heartbeat after a power cut, and waiting for the disk costs time
        files.write_text(self.path / "status.json", files.to_json(record, indent=2) + "\n", durable=False)

    def truncate_after(self, step: int) -> None:
        """Drop records of later steps and a torn last line, so that a resumed run's files equal an undisturbed one's.

        Raises:
            DataError: a line before the last is damaged.
        """
        for path in (self.path / name for name in RECORDS):
            kept = b"".join(line + b"\n" for line, record in files.jsonl_lines(path) if record.get("step", 0) <= step)
            if path.is_file() and kept != path.read_bytes():
                files.write_text(path, kept.decode("utf-8"))

    # Reading

    def read(self, name: str) -> list[dict[str, Any]]:
        """The records of metrics.jsonl, samples.jsonl or eval.jsonl, also while they are being written.

        Raises:
            DataError: a line before the last is damaged, or a record is none of that file; it names file and line.
        """
        return [record for _, record in self.lines(name)]

    def lines(self, name: str) -> list[tuple[bytes, dict[str, Any]]]:
        """The lines of such a file as they stand, without line ends, with their records. Raises as `read`."""
        return files.jsonl_lines(self.path / name, FAULTS.get(name))

    def in_use(self) -> bool:
        """Whether a process has the folder locked."""
        return is_held(self.path / _LOCK)

    def read_status(self) -> dict[str, Any]:
        """What `status` said last; empty before the first time. Raises DataError where the file says something else."""
        path = self.path / "status.json"
        status = files.read_object(path)
        for name, kinds in (("step", int), ("steps", int), ("heartbeat", (int, float)), ("state", str)):
            if name in status and not isinstance(status[name], kinds):
                raise DataError(f"{path}: {name} is damaged, or edited by hand: delete the file")
        return status


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn the system's refusals (no permission, no space) into errors that a user can act on."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{what} ({error.strerror or error})") from None
