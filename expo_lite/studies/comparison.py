"""What was written of one question, before training, explained and after: the record, which prints itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from expo_lite.core.records import Completion, Problem, Verdict, why_rejected
from expo_lite.core.tables import TextTable

BEFORE, EXPLANATION, AFTER = "before", "explanation", "after"
BASE, TRAINED = "base", "trained"
MODELS = {BASE: "the base", TRAINED: "the trained model"}
"""Who can write an explanation, by the name that is asked for: adapter off, adapter on."""
TITLES = {BEFORE: "before training", AFTER: "after training"}
READERS = {BEFORE: MODELS[BASE], AFTER: MODELS[TRAINED]}
"""Whose likelihood of the explanation it is."""


@dataclass(frozen=True)
class Attempt:
    """What was written in one role; `verdict` is None where the answer is not known."""

    completion: Completion
    answer: str | None
    verdict: Verdict | None
    seconds: float


@dataclass(frozen=True)
class Likelihoods:
    """An explanation's tokens and their log-probabilities without the hint: to the base, and to the policy if trained.

    The last token, if empty, is the end token.
    """

    tokens: list[str]
    before: list[float]
    after: list[float] | None


@dataclass(frozen=True, repr=False)
class Comparison:
    """The attempts by role (no AFTER without an adapter, no EXPLANATION without a known answer).

    `rejected` is the filter of training that would turn the explanation down, or None; `explained_by` is who wrote it,
    BASE or TRAINED. `note` is what the user should know of the question. As text it is lines, in a notebook a table.
    """

    problem: Problem
    attempts: dict[str, Attempt]
    rejected: str | None = None
    by_token: Likelihoods | None = None
    explained_by: str = BASE
    note: str | None = None

    @property
    def before(self) -> str:
        """What the base writes."""
        return self.attempts[BEFORE].completion.text

    @property
    def explanation(self) -> str | None:
        """What `explained_by` writes when it is told the answer; None without a known answer."""
        return self._text(EXPLANATION)

    @property
    def after(self) -> str | None:
        """What the trained model writes; None without one."""
        return self._text(AFTER)

    @property
    def accepted(self) -> bool | None:
        """Whether training would take the explanation; None without one."""
        return None if self.explanation is None else self.rejected is None

    @property
    def why_rejected(self) -> str | None:
        """Why training would not, in words."""
        return None if self.rejected is None else why_rejected(self.rejected)

    @property
    def likelihoods(self) -> dict[str, float]:
        """How likely the explanation's tokens are without the hint: geometric means, to the base (BEFORE) and to the
        trained model (AFTER). One of the two wrote it, told the answer: `explained_by`."""
        sides = {} if self.by_token is None else {BEFORE: self.by_token.before, AFTER: self.by_token.after}
        return {side: token_likelihood(logprobs) for side, logprobs in sides.items() if logprobs is not None}

    def __str__(self) -> str:
        return "\n".join(f"{title}: {text}" for title, text in self._rows())

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        table = TextTable("", ["", ""], self._rows(), words=(0, 1))
        return f"**{_on_one_line(self.problem.question)}**\n\n{table.markdown()}"

    def _text(self, role: str) -> str | None:
        attempt = self.attempts.get(role)
        return attempt and attempt.completion.text

    def _rows(self) -> list[tuple[str, str]]:
        rows = []
        for role, attempt in self.attempts.items():
            verdict = "" if attempt.verdict is None else f" ({attempt.verdict.value})"
            rows.append((self._title(role) + verdict, _on_one_line(attempt.completion.text)))
        if self.accepted is not None:
            taken = "yes" if self.accepted else f"no, {self.why_rejected}"
            likely = ", ".join(f"{100 * share:.0f} % to {READERS[side]}" for side, share in self.likelihoods.items())
            rows += [("fit to train on", taken), ("its likelihood per token, answer hidden", likely)]
        return rows if self.note is None else [*rows, ("note", self.note)]

    def _title(self, role: str) -> str:
        return TITLES.get(role) or f"explanation by {MODELS[self.explained_by]}, told the answer"


def token_likelihood(logprobs: list[float]) -> float:
    """The geometric mean of token probabilities: exp of the mean log-probability."""
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else float("nan")


def _on_one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
