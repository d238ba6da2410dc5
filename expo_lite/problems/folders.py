"""The files of a folder that are read, each with its split: by its name, or as `datasets` has saved them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from expo_lite.core.errors import DataError
from expo_lite.problems.files import KINDS, kind_of

TRAIN, TEST = "train", "test"
USUAL_SPLITS = (TRAIN, TEST, "validation", "valid", "val", "dev", "eval")
_BESIDE_DATA = frozenset(("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"))
"""What `datasets` writes about a data set, beside it."""
_BY_NAME = "Give the files by name instead: data.source for those to train on, data.test_source for the others."
_LIKE_A_SPLIT = re.compile(r"(?<![a-z])(?:train|test)|(?:train|test)(?:s|ing|set|data)?(?![a-z])", re.IGNORECASE)
_NO_SPLIT = re.compile(r"contests?|latest", re.IGNORECASE)


def files_in(folder: Path, given: Sequence[str] = ()) -> dict[Path, str | None]:
    """Every readable file below a folder with its split; None where its name has none. `given` splits come first.

    Raises DataError where there is no file, or where names leave open what is trained on and what is tested on.
    """
    try:
        paths = sorted(path for path in folder.rglob("*") if _is_data(path, folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: cannot be read ({error}).") from error
    paths = [path for path in paths if _is_listed(path)]
    if not paths:
        raise DataError(f"{folder}: holds no {KINDS} files.")
    found = {path: _split_of(path.relative_to(folder), given) for path in paths}
    if len(found) > 1 and not any(found.values()):
        names = [str(path.relative_to(folder)) for path in found]
        if unclear := [name for name in names if _LIKE_A_SPLIT.search(_NO_SPLIT.sub("", name))]:
            raise DataError(
                f"{folder}: {', '.join(unclear[:5])} may be of a split, but their names do not say so as train.jsonl "
                f"or my-test.csv do. {_BY_NAME}"
            )
    return found


def _is_data(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and kind_of(path) is not None and path.name not in _BESIDE_DATA and not hidden


def _is_listed(path: Path) -> bool:
    """Whether a file is one of the data set that was saved in its folder, as state.json lists them; others are caches.

    Raises DataError where that list cannot be read or names a file that is missing.
    """
    state = path.with_name("state.json")
    if kind_of(path) != ".arrow" or not state.is_file():
        return True
    try:
        listed = [str(file["filename"]) for file in json.loads(state.read_bytes())["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{state}: does not list the files of the data set; save it anew.") from error
    if missing := [name for name in listed if not path.with_name(name).is_file()]:
        raise DataError(f"{state}: lists {missing[0]}, which is missing; save the data set anew.")
    return path.name in listed


def _split_of(path: Path, given: Sequence[str]) -> str | None:
    """The split that the innermost part of a path names as a word: Train, my_test, train-00000-of-00001, testSet."""
    for part in reversed(path.parts):
        words = f"{part} {re.sub('(?<=[a-z])(?=[A-Z])', ' ', part)}"
        named = [s for s in (*given, *USUAL_SPLITS) if re.search(rf"(?<![a-z]){re.escape(s)}(?![a-z])", words, re.I)]
        if named and named[0] in given:
            return named[0]
        if TRAIN in named and len(named) > 1:
            raise DataError(
                f"{path}: its name speaks of {' and '.join(named)}, and a file can be of one split only. {_BY_NAME}"
            )
        if named:
            return named[0]
    return None
