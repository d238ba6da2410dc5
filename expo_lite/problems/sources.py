"""A source of problems by its name: local files, a folder or a data set of the Hub, with the splits that it has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expo_lite.config.hub import HUB_ID
from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.problems.columns import DataRow
from expo_lite.problems.embedded import EMBEDDED
from expo_lite.problems.files import KINDS, kind_of, read_file
from expo_lite.problems.folders import TEST, TRAIN, files_in
from expo_lite.problems.hub import KNOWN_SETS, HubSet, Loader, read_hub
from expo_lite.problems.values import is_whole_text

_SHOWN_FILES = 5  # that a note names
_LONGEST_NAME = 200  # characters of a name that a message repeats


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

    def unread(self, splits: Collection[str | None]) -> list[str]:
        """A note on the files of a folder that are of none of these splits."""
        if self.files is None or not any(self.files.values()):
            return []
        left = [path.name for path, of_split in self.files.items() if of_split is None or of_split not in splits]
        more = f" and {len(left) - _SHOWN_FILES} more" if len(left) > _SHOWN_FILES else ""
        used = " or ".join(sorted(filter(None, splits)))
        return [f"not read, for their names do not say {used}: {', '.join(left[:_SHOWN_FILES])}{more}"] if left else []

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
    splits = tuple(filter(None, (config.split, config.test_split)))
    return Source(name, setting, columns, (), HubSet(), _files(paths, subset, splits))


def _paths(name: str, setting: str) -> list[Path] | None:
    """The files or the folder that a source's name stands for; None for a data set of the Hub."""
    parts = [name] if _exists(name) else [part.strip() for part in name.split(",")]
    if len(parts) == 1 and not _exists(name) and kind_of(Path(name)) is None and HUB_ID.fullmatch(name):
        return None
    for part in parts:
        if not _exists(part):
            shown = part if len(part) <= _LONGEST_NAME else part[:_LONGEST_NAME] + "…"
            raise DataError(
                f"{setting}: no file {shown}; give {KINDS} files or a folder of them, a data set of the Hub as "
                f"OWNER/NAME, or what is made here: {', '.join(EMBEDDED)}."
            )
    paths = [Path(part).expanduser() for part in parts]
    for path in paths:
        if not is_whole_text(str(path)):
            raise DataError(f"{setting}: the name {str(path)!r} is not UTF-8 text; rename it.")
        if path.is_dir():
            if len(paths) > 1:
                raise DataError(f"{setting}: {path} is a folder; give one folder alone, or files.")
        elif not path.is_file():
            raise DataError(
                f"{setting}: {path} is a device or a pipe, which can be read once at most; write its rows to a file."
            )
        elif kind_of(path) is None:
            raise DataError(f"{setting}: {path} should be a {KINDS} file; its kind is read from the end of its name.")
    return paths


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, in a folder that may not be entered; the home of nobody
        return False


def _files(paths: list[Path], subset: str | None, splits: tuple[str, ...]) -> dict[Path, str | None]:
    """Every file with its split, which only the files of a folder have."""
    if paths[0].is_dir():
        return files_in(paths[0] / subset if subset else paths[0], splits)
    if subset is not None:
        raise DataError(f"data.subset: {paths[0]} is a file and has no subsets; leave it out.")
    return dict.fromkeys(paths)
