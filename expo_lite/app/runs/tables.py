"""A run's records as tables: steps, samples, scores. Reads only through `RunDir`, also while a run is writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd

from expo_lite.core.errors import DataError
from expo_lite.core.records import Verdict, why_rejected
from expo_lite.grading.intervals import Estimate
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.history import Tail

KINDS = ("rollout", "explanation")
PAGE_ROWS = 25
LONGEST_SEARCH = 200
MOST_TABLES = 24
"""Files whose tables are kept in memory: those of six runs side by side, and some more."""
SAMPLE_COLUMNS = (
    "row",
    "step",
    "kind",
    "level",
    "problem",
    "question",
    "answer",
    "verdict",
    "correct",
    "fate",
    "tokens",
    "text",
)
GROUPS = {"failed": "all attempts failed", "mixed": "some attempts were right", "solved": "all attempts were right"}


def load_metrics(run: RunDir) -> pd.DataFrame:
    """One row a step, with the columns of metrics.jsonl. Raises DataError where it is damaged."""
    with _named(run, METRICS) as path:
        return _table(path).rows(_metrics)


def load_samples(run: RunDir) -> pd.DataFrame:
    """One row an attempt or explanation, as they were written. Raises DataError where samples.jsonl is damaged."""
    with _named(run, SAMPLES) as path:
        return _table(path).rows(_samples)


def load_evaluations(run: RunDir) -> list[dict[str, Any]]:
    """The records of eval.jsonl (base_validation, validation, base_test, test), pass@1 and pass@k as `Estimate`s.

    Raises DataError where it is damaged.
    """
    with _named(run, EVAL):
        return [
            {"step": record["step"], "name": record["name"], "levels": [_score(level) for level in record["levels"]]}
            for record in run.read(EVAL)
        ]


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain values, for clients: what a row does not have is None."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


# ------------------------------------------------------------------------------------------------- looking for samples


@dataclass(frozen=True)
class Wanted:
    """Which samples to show; empty values ask for nothing in particular. `correct` is right or wrong."""

    kind: str = ""
    levels: tuple[int, ...] = ()
    correct: str = ""
    text: str = ""
    row: int = 0


def checked_wanted(kind: object, levels: Sequence[Any] | None, correct: object, text: object) -> Wanted:
    """What a user is looking for. Raises DataError with a sentence."""
    if kind and kind not in KINDS:
        raise DataError(f"kind: should be {' or '.join(KINDS)}, or empty for both.")
    if correct and correct not in ("right", "wrong"):
        raise DataError("correct: should be right or wrong, or empty for both.")
    if not all(isinstance(level, int) for level in levels or ()):
        raise DataError("level: should be a whole number.")
    if text is not None and not isinstance(text, str):
        raise DataError("text: should be text.")
    if text and len(text) > LONGEST_SEARCH:
        raise DataError(f"The text to look for has {len(text):,} characters; at most {LONGEST_SEARCH} are read.")
    return Wanted(str(kind or ""), tuple(levels or ()), str(correct or ""), (text or "").strip())


def matching(samples: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """The samples that were asked for. Text is looked for in questions and in what was written, whatever its case."""
    keep = pd.Series(True, index=samples.index)
    if wanted.row:
        keep &= samples["row"] == wanted.row
    if wanted.kind:
        keep &= samples["kind"] == wanted.kind
    if wanted.levels:
        keep &= samples["level"].isin(wanted.levels)
    if wanted.correct:
        keep &= samples["correct"] == (wanted.correct == "right")
        keep &= samples["verdict"] != Verdict.TIMEOUT.value
    if wanted.text:
        found = [samples[name].str.contains(wanted.text, case=False, regex=False) for name in ("question", "text")]
        keep &= found[0] | found[1]
    return samples.loc[keep]


def page_of(frame: pd.DataFrame, number: object, rows: int = PAGE_ROWS) -> tuple[pd.DataFrame, int, int]:
    """The rows of page `number` (the nearest there is), that page's number, and how many pages there are."""
    pages = max(1, ceil(len(frame) / rows))
    try:
        page = min(max(1, int(float(str(number)))), pages)
    except (ValueError, OverflowError):  # empty, or no number
        page = 1
    return frame.iloc[(page - 1) * rows : page * rows], page, pages


def part_of(frame: pd.DataFrame, offset: object, limit: object, most: int) -> pd.DataFrame:
    """At most `limit` rows, `offset` rows from the first on; none beyond the last. Raises DataError with a sentence."""
    if not isinstance(offset, int) or offset < 0:
        raise DataError("offset: should be a whole number from 0.")
    if not isinstance(limit, int) or not 1 <= limit <= most:
        raise DataError(f"limit: should be a whole number from 1 to {most:,}.")
    return frame.iloc[offset : offset + limit]


# -------------------------------------------------------------------------------------------------------- from records


# Each takes the new records of a file, and how many rows there are before them.


def _metrics(records: list[dict[str, Any]], _: int) -> pd.DataFrame:
    if not all("step" in record for record in records):
        raise KeyError("step")
    return pd.DataFrame(records) if records else pd.DataFrame(columns=["step"])


def _samples(records: list[dict[str, Any]], before: int) -> pd.DataFrame:
    rows = [_sample(number, record) for number, record in enumerate(records, before + 1)]
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))


def _sample(number: int, record: dict[str, Any]) -> dict[str, Any]:
    copied = {name: record[name] for name in ("step", "kind", "level", "verdict", "tokens")}
    texts = {name: str(record[name]) for name in ("problem", "question", "answer", "text")}
    correct = record["verdict"] == Verdict.CORRECT.value
    return {**copied, **texts, "row": number, "correct": correct, "fate": fate(record)}


def fate(record: dict[str, Any]) -> str:
    """What became of a sample, in words: how its group fared, or what training did with an explanation."""
    if record["kind"] == "rollout":
        return GROUPS.get(str(record.get("group")), "")
    if record.get("rejected"):
        return f"turned down: {why_rejected(str(record['rejected']))}"
    return "learned from" if record.get("trained") else "accepted, not used"


def _score(level: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: level[name] for name in ("level", "problems", "samples", "k")}
    return {**numbers, **{name: Estimate(**level[name]) for name in ("pass_at_1", "pass_at_k")}}


class _Table:
    """The rows of a file, of which only what was added is read anew: filters ask for them at every letter typed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = Lock()  # users' events come in threads
        self._kept: tuple[Tail, pd.DataFrame] | None = None

    def rows(self, make: Callable[[list[dict[str, Any]], int], pd.DataFrame]) -> pd.DataFrame:
        """All rows so far; nothing is kept of a file that cannot be read."""
        with self._turn:
            kept, self._kept = self._kept, None
            tail, frame = kept if kept is not None and kept[0].goes_on() else (Tail(self._path), make([], 0))
            if records := list(tail.new()):
                new = make(records, len(frame))
                frame = pd.concat([frame, new], ignore_index=True) if len(frame) else new
            self._kept = tail, frame
            return frame


_table = lru_cache(MOST_TABLES)(_Table)


@contextmanager
def _named(run: RunDir, name: str) -> Iterator[Path]:
    """The path of a run's file; what is wrong with it is said without its place, which users need not know."""
    path, shown = run.path / name, f"{run.path.name}/{name}"
    try:
        yield path
    except (KeyError, TypeError) as error:
        raise DataError(f"{shown} was not written by this version, or edited by hand: {error}") from None
    except OSError as error:
        raise DataError(f"{shown} cannot be read ({error.strerror})") from None
    except DataError as error:
        raise DataError(str(error).replace(str(path), shown)) from None
