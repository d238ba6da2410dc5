"""What the Python interface gives back: plain values that print readably, and as tables in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expo_lite.core.records import why_rejected
from expo_lite.studies.before_after import AFTER, BEFORE, EXPLANATION, Comparison, token_likelihood

TITLES = {BEFORE: "before training", EXPLANATION: "explanation", AFTER: "after training"}


@dataclass(frozen=True)
class Trained:
    """Where a training stands."""

    run: Path
    step: int
    steps: int

    @property
    def finished(self) -> bool:
        """Whether all steps are done; else `train()` goes on from here."""
        return self.step >= self.steps

    @property
    def adapter(self) -> Path:
        """The adapter that was best on validation, as PEFT loads it."""
        return self.run / "adapter"

    def __str__(self) -> str:
        end = "finished" if self.finished else "stopped; train() goes on from here"
        return f"step {self.step} of {self.steps}, {end}: {self.run}"


@dataclass(frozen=True)
class Compared:
    """One question answered before training, explained, and answered after training; None for what there is not."""

    comparison: Comparison

    @property
    def before(self) -> str:
        """What the base writes."""
        return self.comparison.attempts[BEFORE].completion.text

    @property
    def explanation(self) -> str | None:
        """What the model writes when it is told the answer."""
        return self._text(EXPLANATION)

    @property
    def after(self) -> str | None:
        """What the trained model writes."""
        return self._text(AFTER)

    @property
    def accepted(self) -> bool | None:
        """Whether training would take the explanation."""
        return None if self.explanation is None else self.comparison.rejected is None

    @property
    def why_rejected(self) -> str | None:
        """Why training would not, in words."""
        return None if self.comparison.rejected is None else why_rejected(self.comparison.rejected)

    @property
    def likelihoods(self) -> dict[str, float]:
        """How likely the explanation's tokens are without the hint, to which model: geometric means."""
        found = self.comparison.likelihoods
        sides = {} if found is None else {BEFORE: found.before, AFTER: found.after}
        return {name: token_likelihood(logprobs) for name, logprobs in sides.items() if logprobs is not None}

    def __str__(self) -> str:
        return "\n".join(f"{title}: {text}" for title, text in self._rows())

    def _repr_markdown_(self) -> str:
        cells = [f"| {title} | {text} |" for title, text in self._rows()]
        return "\n".join([f"**{_on_one_line(self.comparison.problem.question)}**\n", "| | |", "|---|---|", *cells])

    def _text(self, role: str) -> str | None:
        attempt = self.comparison.attempts.get(role)
        return attempt and attempt.completion.text

    def _rows(self) -> list[tuple[str, str]]:
        rows = []
        for role, attempt in self.comparison.attempts.items():
            verdict = "" if attempt.verdict is None else f" ({attempt.verdict.value})"
            rows.append((TITLES[role] + verdict, _on_one_line(attempt.completion.text)))
        if self.accepted is not None:
            taken = "yes" if self.accepted else f"no, {self.why_rejected}"
            likely = ", ".join(f"{100 * share:.0f} % {TITLES[role]}" for role, share in self.likelihoods.items())
            rows += [("fit to train on", taken), ("its likelihood per token, answer hidden", likely)]
        return rows


def _on_one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
