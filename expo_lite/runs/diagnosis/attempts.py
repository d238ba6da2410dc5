"""Are attempts wrong for reasons other than reasoning: cut off, without a box, judged too slowly?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expo_lite.config.settings import Config
from expo_lite.runs.diagnosis.evidence import MOSTLY, SOME, Evidence, Finding, mean, sample_case


def longer(config: Config) -> str:
    """The flag that gives completions twice the room."""
    return f"--rollout.max-new-tokens {2 * config.rollout.max_new_tokens}"


def truncation(run: Evidence) -> Finding | None:
    """Most rollouts are cut off."""
    share = mean(run.recent, "truncated_share")
    if share <= MOSTLY:
        return None
    sentence = (
        f"{share:.0%} of the rollouts were cut off at {run.config.rollout.max_new_tokens} "
        "tokens and count as wrong: raise rollout.max_new_tokens."
    )
    return Finding("truncation", "serious", sentence, longer(run.config))


def no_answer(run: Evidence) -> Finding | None:
    """Most rollouts hold no box; not said where they are cut off, for what is cut off has no answer either."""
    share = mean(run.recent, "no_answer_share")
    if share <= MOSTLY or truncation(run):
        return None
    sentence = (
        f"{share:.0%} of the rollouts hold no \\boxed{{}} answer: the model misses the "
        "format, not the reasoning. Ask for \\boxed{} in prompt.task or prompt.system."
    )
    return Finding("no_answer", "serious", sentence, "--prompt.task", _newest(run, "no answer"))


def timeouts(run: Evidence) -> Finding | None:
    """Some verdicts time out."""
    share = mean(run.recent, "timeout_share")
    if share <= SOME:
        return None
    sentence = (
        f"{share:.0%} of the verdicts timed out: whether these answers are right is not known, and they earn nothing. "
        "Raise verifier.timeout_seconds."
    )
    setting = f"--verifier.timeout-seconds {2 * run.config.verifier.timeout_seconds}"
    return Finding("timeouts", "warning", sentence, setting, _newest(run, "timeout"))


def _newest(run: Evidence, verdict: str) -> tuple[dict[str, Any], ...]:
    """The last recorded attempt with this verdict."""

    def fits(sample: Mapping[str, Any]) -> bool:
        return sample.get("kind") == "rollout" and sample.get("verdict") == verdict

    return tuple(sample_case(sample) for sample in list(filter(fits, run.samples))[-1:])


CHECKS = (truncation, no_answer, timeouts)
