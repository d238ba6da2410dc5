"""What a checkpoint's files were when it was saved, and whether they still are. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expo_lite.runs.files import sha256, to_json

MANIFEST = "manifest.json"
"""Beside a checkpoint's files: the sha256 of each, and how long the run's records were. Older checkpoints have none."""


def write_manifest(folder: Path, records: Mapping[str, int]) -> None:
    """Note the digests of all files below `folder`, and the bytes of the run's records; the last file to be written."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    digests = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    (folder / MANIFEST).write_text(to_json({"files": digests, "records": dict(records)}, indent=2) + "\n")


def fault_in(folder: Path) -> str | None:
    """What of a folder is not as it was saved, in a few words; None where all is, or nobody noted it."""
    if not (folder / MANIFEST).is_file():
        return None
    noted = _read(folder)
    if noted is None:
        return f"{MANIFEST} cannot be read"
    for name, digest in noted["files"].items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256(folder / name) != digest:
            return f"{name} is not as it was saved"
    return None


def noted_records(folder: Path) -> dict[str, int]:
    """The bytes that the run's records had, by file; empty where nobody noted it."""
    return (_read(folder) or {"records": {}})["records"]


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        noted = json.loads((folder / MANIFEST).read_bytes())
        sound = all(isinstance(noted[part], dict) for part in ("files", "records"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return noted if sound else None
