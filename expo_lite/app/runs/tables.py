"""A run's records as tables: steps, samples, scores. Reads only through `RunDir`, also while a run is writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd

from expo_lite.app.newest import Newest
from expo_lite.core.errors import DataError
from expo_lite.core.records import Verdict, why_rejected
from expo_lite.runs.files import read_new_jsonl
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir

KINDS = ("rollout", "explanation")
PAGE_ROWS = 25
LONGEST_SEARCH = 200
MOST_TABLES = 24
"""Files whose tables are kept in memory: those of six runs side by side, and some more."""
ENDING = 64
"""Bytes by which a file is known again."""
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
SCORE_COLUMNS = ("step", "name", "level", "problems", "samples", "k")
ESTIMATES = ("pass_at_1", "pass_at_k")
GROUPS = {"failed": "all attempts failed", "mixed": "some attempts were right", "solved": "all attempts were right"}


def load_metrics(run: RunDir) -> pd.DataFrame:
    """One row a step, with the columns of metrics.jsonl. Raises DataError where it is damaged."""
    return _load(run, METRICS, _metrics)


def load_samples(run: RunDir) -> pd.DataFrame:
    """One row an attempt or explanation, as they were written. Raises DataError where samples.jsonl is damaged."""
    return _load(run, SAMPLES, _samples)


def load_evaluations(run: RunDir) -> pd.DataFrame:
    """One row a level of each evaluation: base_validation, validation, base_test, test.

    `pass_at_1` and `pass_at_k` are shares; their intervals end in `_low` and `_high`. Raises DataError.
    """
    scores = _load(run, EVAL, _scores)
    return scores.drop_duplicates(["step", "name", "level"], keep="last", ignore_index=True)


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
    """What a visitor is looking for. Raises DataError with a sentence."""
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


def _scores(records: list[dict[str, Any]], _: int) -> pd.DataFrame:
    rows = [_score(record, level) for record in records for level in record["levels"]]
    names = [name + end for name in ESTIMATES for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*SCORE_COLUMNS, *names, "truncated_share"])


def _score(record: dict[str, Any], level: dict[str, Any]) -> dict[str, Any]:
    row = {"step": record["step"], "name": record["name"]}
    row |= {name: level[name] for name in (*SCORE_COLUMNS[2:], "truncated_share")}
    for name in ESTIMATES:
        estimate = level[name]
        row |= {name: estimate["mean"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
    return row


@dataclass(frozen=True)
class _Table:
    """What was read of a file: so many bytes, those that came last, and the rows."""

    read_bytes: int
    ending: bytes
    frame: pd.DataFrame


_tables: Newest[_Table] = Newest(MOST_TABLES)


def _load(run: RunDir, name: str, make: Callable[[list[dict[str, Any]], int], pd.DataFrame]) -> pd.DataFrame:
    """The table of a file: filters ask for it at every letter typed, so only what was added is read anew."""
    path, shown = (run.path / name).absolute(), f"{run.path.name}/{name}"  # visitors need not know where it lies

    def renew(kept: _Table | None) -> _Table:
        if not path.is_file():  # nothing was written yet
            return _Table(0, b"", make([], 0))
        if kept is None or not _goes_on(path, kept):
            kept = _Table(0, b"", make([], 0))
        records, read_bytes = read_new_jsonl(path, kept.read_bytes)
        if not records:
            return kept
        new = make(records, len(kept.frame))
        frame = pd.concat([kept.frame, new], ignore_index=True) if len(kept.frame) else new
        return _Table(read_bytes, _bytes_before(path, read_bytes), frame)

    try:
        return _tables.renewed(path, renew).frame
    except (KeyError, TypeError) as error:
        raise DataError(f"{shown} was not written by this version, or edited by hand: {error}") from None
    except OSError as error:
        raise DataError(f"{shown} cannot be read ({error.strerror})") from None
    except DataError as error:
        raise DataError(str(error).replace(str(path), shown)) from None


def _goes_on(path: Path, kept: _Table) -> bool:
    """Whether the file still begins with what was read. A resumed run drops its last records and writes others."""
    return _bytes_before(path, kept.read_bytes) == kept.ending


def _bytes_before(path: Path, end: int) -> bytes:
    start = max(0, end - ENDING)
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(end - start)
