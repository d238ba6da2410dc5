"""False rewards and false refusals on tests/data/verdicts.tsv, of math-verify alone and of this program, by kind.

`python benchmarks/verdicts.py` prints the table of docs/verifier.md. A tab-separated line there holds the pair's kind,
what is to be said of it (right or wrong), the known answer and the given one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expo_lite.core.records import Verdict
from expo_lite.grading.verifier import Verifier


@dataclass(frozen=True)
class AnswerPair:
    """A known answer and a given one, with whether they agree."""

    kind: str
    right: bool
    gold: str
    answer: str

    @property
    def completion(self) -> str:
        """The given answer as a model writes it."""
        return rf"So the answer is \boxed{{{self.answer}}}."


def _read() -> list[AnswerPair]:
    path = Path(__file__).parents[1] / "tests/data/verdicts.tsv"
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [AnswerPair(kind, {"right": True, "wrong": False}[said], gold, answer) for kind, said, gold, answer in rows]


PAIRS = _read()


def by_math_verify(pairs: Sequence[AnswerPair]) -> list[bool]:
    """Whether math-verify alone takes each answer for right; without its time limits, to be the same on any machine."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    parsed = [[parse(text, parsing_timeout=None) for text in (f"${p.gold}$", p.completion)] for p in pairs]  # type: ignore[arg-type]
    return [verify(gold, answer, timeout_seconds=None) for gold, answer in parsed]


def by_this_program(pairs: Sequence[AnswerPair]) -> list[bool]:
    """Whether the verifier does."""
    with Verifier() as verifier:
        verdicts = verifier.judge([(pair.gold, pair.completion) for pair in pairs])
    return [verdict is Verdict.CORRECT for verdict in verdicts]


def table(pairs: Sequence[AnswerPair], theirs: Sequence[bool], ours: Sequence[bool]) -> list[str]:
    """Markdown: a row for each kind and one for all; how many wrong answers earn, and how many right ones do not."""
    lines = [
        "| kind | wrong pairs | earn: math-verify | earn: here | right pairs | refused: math-verify | refused: here |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in [*dict.fromkeys(pair.kind for pair in pairs), "all"]:
        said = [(p.right, a, b) for p, a, b in zip(pairs, theirs, ours, strict=True) if kind in (p.kind, "all")]
        wrong, right = ([one for one in said if one[0] is truth] for truth in (False, True))
        cells = (
            len(wrong),
            sum(a for _, a, _ in wrong),
            sum(b for _, _, b in wrong),
            len(right),
            sum(not a for _, a, _ in right),
            sum(not b for _, _, b in right),
        )
        lines.append(f"| {kind} | {' | '.join(map(str, cells))} |")
    return lines


def main() -> None:
    """Print the table."""
    print("\n".join(table(PAIRS, by_math_verify(PAIRS), by_this_program(PAIRS))))


if __name__ == "__main__":
    main()
