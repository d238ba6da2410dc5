"""A source of problems by its name: local files, a folder or a data set of the Hub, with the splits that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expo_lite.config.hub import HUB_ID
from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.problems.columns import DataRow
from expo_lite.problems.files import KINDS, READERS, read_file
from expo_lite.problems.hub import KNOWN_SETS, HubSet, Loader, read_hub

TRAIN, TEST = "train", "test"
_USUAL_SPLITS = (TRAIN, TEST, "validation", "valid", "val", "dev")


@dataclass(frozen=True)
class Source:
    """Where rows come from. `files` is None for a data set of the Hub."""

    name: str
    setting: Literal["data.source", "data.test_source"]
    columns: Mapping[str, str]
    subsets: Sequence[str | None]
    known: HubSet
    files: Mapping[Path, str | None] | None  # each with its split, if the files of a folder have splits

    def train_split(self, config: DataConfig) -> str | None:
        """The split to train on; None where there are no splits."""
        if self._has_no_splits("data.split", config.split):
            return None
        split = config.split or self.known.split
        if split is None:
            raise DataError(
                f"{self.name}: holds test problems only; give it as data.test_source, beside a data.source."
            )
        return split

    def test_split(self, config: DataConfig) -> str | None:
        """The split of the official test problems; None where there is none."""
        if self._has_no_splits("data.test_split", config.test_split):
            return None
        usual = self.files is not None and TEST in self.files.values()
        return config.test_split or self.known.test_split or (TEST if usual or self.setting != "data.source" else None)

    def rows(self, split: str | None, load_dataset: Loader | None) -> Iterator[DataRow]:
        """Every row of a split, or of all files where there are no splits."""
        if self.files is None:
            yield from read_hub(self.name, self.subsets, split or TRAIN, load_dataset)
            return
        chosen = [path for path, of_split in self.files.items() if of_split == split]
        if not chosen:
            raise DataError(f"{self.name}: no file of the split {split}; there are {', '.join(self._file_names())}.")
        for path in chosen:
            yield from read_file(path)

    def _has_no_splits(self, setting: str, value: str | None) -> bool:
        if self.files is None or any(self.files.values()):
            return False
        if value is not None:
            raise DataError(f"{setting}: {self.name} has no splits; leave it out, or give the files by name.")
        return True

    def _file_names(self) -> list[str]:
        return sorted({path.name for path in self.files or ()})


def find_source(config: DataConfig, which: Literal["source", "test_source"]) -> Source:
    """What `data.source` or `data.test_source` names. Raises DataError for what is no file and can be no Hub data set.

    A test source that is known on the Hub has its own columns; another is read like the source.
    """
    name = config.source if which == "source" else config.test_source or ""
    setting = "data.source" if which == "source" else "data.test_source"
    known = KNOWN_SETS.get(name, HubSet())
    paths = _paths(name, setting)
    own = which == "source" or name not in KNOWN_SETS
    columns = {**known.columns, **config.columns} if own else known.columns
    subset = config.subset if which == "source" else None
    if paths is None:
        subsets = [part.strip() for part in subset.split(",")] if subset else known.subsets
        return Source(name, setting, columns, subsets, known, None)
    splits = (config.split, config.test_split, *_USUAL_SPLITS)
    return Source(name, setting, columns, (), HubSet(), _files(paths, subset, tuple(filter(None, splits))))


def _paths(name: str, setting: str) -> list[Path] | None:
    """The files or the folder that a source's name stands for; None for a data set of the Hub."""
    whole = Path(name).expanduser()
    parts = [name] if whole.exists() else [part.strip() for part in name.split(",")]
    if len(parts) == 1 and not whole.exists() and whole.suffix.lower() not in READERS and HUB_ID.fullmatch(name):
        return None
    paths = [Path(part).expanduser() for part in parts]
    for path in paths:
        if not path.exists():
            raise DataError(
                f'{setting}: no file {path}; give "tiny", {KINDS} files or a folder of them, or a data set of the Hub '
                "as OWNER/NAME."
            )
        if path.is_dir() and len(paths) > 1:
            raise DataError(f"{setting}: {path} is a folder; give one folder alone, or files.")
        if path.is_file() and path.suffix.lower() not in READERS:
            raise DataError(f"{setting}: {path} should be a {KINDS} file; its kind is read from the end of its name.")
    return paths


def _files(paths: list[Path], subset: str | None, splits: tuple[str, ...]) -> dict[Path, str | None]:
    """Every file with its split: what its name or subfolder begins with, as in train-00000-of-00001.parquet."""
    if not paths[0].is_dir():
        if subset is not None:
            raise DataError(f"data.subset: {paths[0]} is a file and has no subsets; leave it out.")
        return dict.fromkeys(paths)
    top = paths[0] / subset if subset else paths[0]
    found: dict[Path, str | None] = {}
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(top).parts
        if path.is_file() and path.suffix.lower() in READERS and not any(part.startswith(".") for part in parts):
            named = [s for s in splits for part in parts if re.match(rf"{re.escape(s)}(?![A-Za-z])", part)]
            found[path] = named[0] if named else None
    if not found:
        raise DataError(f"{top}: holds no {KINDS} files.")
    return found
