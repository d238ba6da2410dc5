"""What a run has recorded, read back, also while it is being written. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from expo_lite.runs.files import damaged, record_in
from expo_lite.runs.folder import FAULTS

ENDING = 64
"""Bytes by which a file is known again."""


class Tail:
    """A file of JSON lines that grows: `new` gives each record once, and `goes_on` tells whether to begin anew.

    It is read from where the last look ended: a look at a long file costs no more than what is new.
    """

    def __init__(self, path: Path, skips_damaged: bool = False) -> None:
        self.path, self._skips_damaged, self._fault = path, skips_damaged, FAULTS.get(path.name)
        self._read_bytes = self._read_lines = self._inode = 0
        self._ending = b""

    def goes_on(self) -> bool:
        """Whether the file still begins with what was read: a resumed run drops its last records and writes others."""
        if not self.path.is_file():
            return not self._read_bytes
        with open(self.path, "rb") as file:
            return self._knows(file)

    def new(self) -> Iterator[dict[str, Any]]:
        """The records added since the last time, one by one; a last line that is not whole is left for the next time.

        Raises:
            DataError: a line before the last is damaged, or a record is none of the file, unless those are skipped; the
                message names file and line.
        """
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            if not self._knows(file):
                return  # replaced just now; the next `goes_on` will say so
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self._read_bytes)
            for line in file:  # one at a time: a long run's file need not fit into memory
                if not line.endswith(b"\n"):
                    return  # being written
                record = record_in(line)
                if record is None and line.strip() and not self._skips_damaged:
                    if any(later.strip() for later in file):
                        raise damaged(self.path, self._read_lines + 1)
                    return
                amiss = record is not None and self._fault is not None and self._fault(record)
                if amiss and not self._skips_damaged:
                    raise damaged(self.path, self._read_lines + 1, amiss)
                self._read_bytes, self._read_lines = self._read_bytes + len(line), self._read_lines + 1
                self._ending = (self._ending + line)[-ENDING:]
                if record is not None and not amiss:
                    yield record

    def _knows(self, file: BinaryIO) -> bool:
        file.seek(self._read_bytes - len(self._ending))
        same = not self._read_bytes or os.fstat(file.fileno()).st_ino == self._inode
        return same and file.read(len(self._ending)) == self._ending


def validations(records: Iterable[Mapping[str, Any]]) -> dict[int, dict[int, Mapping[str, Any]]]:
    """Of eval.jsonl's records, the scores on validation problems by step and level: the base at 0, then the adapter."""
    found = [record for record in records if record.get("name") in ("base_validation", "validation")]
    return {record["step"]: {score["level"]: score for score in record["levels"]} for record in found}


def validation_curves(records: Iterable[Mapping[str, Any]]) -> dict[int, dict[int, float]]:
    """pass@1 on validation problems by step and level, as shares."""
    by_step = validations(records)
    return {step: {n: score["pass_at_1"]["mean"] for n, score in scores.items()} for step, scores in by_step.items()}
