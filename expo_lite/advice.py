"""What to do when a run does not learn, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expo_lite.config import Config
from expo_lite.evaluation import Evaluation

MOSTLY = 0.5


def advise(metrics: Sequence[Mapping[str, float]], config: Config) -> list[str]:
    """Sentences on why these steps learned little or nothing; none if they had signal."""
    if not metrics:
        return []
    advice = []
    if total(metrics, "updates") == 0:
        advice.append(no_signal(metrics, config))
    if mean(metrics, "truncated_share") > MOSTLY:
        advice.append(
            f"{mean(metrics, 'truncated_share'):.0%} of the rollouts were cut off at {config.rollout.max_new_tokens} "
            "tokens and count as wrong: raise rollout.max_new_tokens."
        )
    elif mean(metrics, "no_answer_share") > MOSTLY:
        advice.append(
            f"{mean(metrics, 'no_answer_share'):.0%} of the rollouts hold no \\boxed{{}} answer: the model misses the "
            "format, not the reasoning. Ask for \\boxed{} in prompt.task or prompt.system."
        )
    if mean(metrics, "timeout_share") > 0.05:
        advice.append("More than 5 % of the verdicts timed out: raise verifier.timeout_seconds.")
    return advice


def no_signal(metrics: Sequence[Mapping[str, float]], config: Config) -> str:
    """Why no update was made: every group solved, or failed without a usable explanation."""
    failed, solved = total(metrics, "failed_groups"), total(metrics, "solved_groups")
    if solved > failed:
        return "Every rollout is already right, so there is nothing to learn: give data.levels harder problems."
    if config.explanation.source == "none":
        return (
            "Every group failed, so all advantages are 0 and plain GRPO has no gradient. "
            "Let the model explain the known answers: --explanation.source self"
        )
    if total(metrics, "explanations_written") == 0:
        return "Every group failed and the data set has no expert solutions: use --explanation.source self"
    reasons = {
        "incomplete": "cut off before they ended: raise rollout.max_new_tokens",
        "unverified": "wrong even though the answer was told: start from easier problems (data.levels)",
        "leak": "betraying that the answer was told: reword prompt.hinted",
    }
    counts = {reason: total(metrics, f"explanations_rejected_{reason}") for reason in reasons}
    worst = max(counts, key=lambda reason: counts[reason])
    written = total(metrics, "explanations_written")
    share = f"{counts[worst]:.0f} of {written:.0f}"
    return f"Every group failed and no explanation was accepted: {share} were {reasons[worst]}."


def forgetting(base: Evaluation, now: Evaluation, margin: float) -> list[str]:
    """A warning for each level whose pass@1 fell more than `margin` below the base's."""
    warnings = []
    for before, after in zip(base.levels, now.levels, strict=True):
        if after.pass_at_1.mean < before.pass_at_1.mean - margin:
            warnings.append(
                f"Level {after.level} is being forgotten: pass@1 was {before.pass_at_1.mean:.0%} and is "
                f"{after.pass_at_1.mean:.0%} now. Give it more weight in data.levels, or lower optimizer.learning_rate."
            )
    return warnings


def total(metrics: Sequence[Mapping[str, float]], name: str) -> float:
    """Sum over steps; a missing number counts as 0."""
    return sum(step.get(name, 0) for step in metrics)


def mean(metrics: Sequence[Mapping[str, float]], name: str) -> float:
    """Mean over steps."""
    return total(metrics, name) / len(metrics)
