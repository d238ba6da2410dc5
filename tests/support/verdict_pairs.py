"""Pairs of a known answer and a given one, by kind, with what is to be said of them: tests/data/verdicts.tsv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class AnswerPair:
    """One line of the file."""

    kind: str
    right: bool
    gold: str
    answer: str


def _read() -> list[AnswerPair]:
    lines = (Path(__file__).parents[1] / "data/verdicts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [AnswerPair(kind, {"right": True, "wrong": False}[said], gold, answer) for kind, said, gold, answer in rows]


PAIRS = _read()
