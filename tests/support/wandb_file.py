"""What wandb has written into its .wandb file, read back: the format of LevelDB's log, a `Record` in each entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BLOCK, HEADER, WHOLE, LAST = 32768, 7, 1, 4
"""Bytes of a block; of the head of the file, and of each piece; kinds of pieces that end an entry."""


def wandb_records(path: Path) -> list[Any]:
    """The entries, in their order, as wandb's own `Record`."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, entry, found = path.read_bytes(), HEADER, b"", []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # the rest of a block has no room for another piece
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]  # after its checksum
        entry += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (WHOLE, LAST):
            found.append(Record.FromString(entry))
            entry = b""
    return found


def history(path: Path) -> list[dict[str, Any]]:
    """What was logged, by step; parts of a table are named `samples/nrows`."""
    rows = [record.history.item for record in wandb_records(path) if record.WhichOneof("record_type") == "history"]
    return [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in rows]


def settings(path: Path) -> dict[str, Any]:
    """The run's hyperparameters."""
    runs = [record.run for record in wandb_records(path) if record.WhichOneof("record_type") == "run"]
    return {entry.key: json.loads(entry.value_json) for entry in runs[0].config.update}
