"""What to do when a run does not learn, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expo_lite.config import Config
from expo_lite.evaluation import Evaluation

MOSTLY, SOME = 0.5, 0.05


def advise(metrics: Sequence[Mapping[str, float]], config: Config) -> list[str]:
    """Sentences on why these steps learned little or nothing; none if they had signal."""
    if not metrics:
        return []
    advice = []
    if total(metrics, "groups_with_signal") + total(metrics, "explanations_trained") == 0:
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
    if mean(metrics, "timeout_share") > SOME:
        advice.append(f"More than {SOME:.0%} of the verdicts timed out: raise verifier.timeout_seconds.")
    return advice


def no_signal(metrics: Sequence[Mapping[str, float]], config: Config) -> str:
    """Why no update was made: every group solved, or failed without a usable explanation."""
    failed, solved = total(metrics, "failed_groups"), total(metrics, "solved_groups")
    if solved > failed:
        return "Every rollout is already right, so there is nothing to learn: give data.levels harder problems."
    if config.explanation.source == "none":
        return (
            "No group holds both right and wrong attempts, so all advantages are 0 and plain GRPO has no gradient. "
            "Let the model explain the known answers: --explanation.source self"
        )
    if total(metrics, "explanations_written") == 0:
        return "The failed groups have no expert solutions in this data set: use --explanation.source self"
    reasons = {
        "incomplete": "cut off before they ended: raise rollout.max_new_tokens",
        "unverified": "wrong even though the answer was told: start from easier problems (data.levels)",
        "leak": "betraying that the answer was told: reword prompt.hinted",
    }
    counts = {reason: total(metrics, f"explanations_rejected_{reason}") for reason in reasons}
    worst = max(counts, key=lambda reason: counts[reason])
    written = total(metrics, "explanations_written")
    share = f"{counts[worst]:.0f} of {written:.0f}"
    return f"No explanation of the failed groups was accepted: {share} were {reasons[worst]}."


def forgotten(base: Evaluation, now: Evaluation) -> dict[int, float]:
    """By how much each level's pass@1 has fallen below the base's; negative where it has risen."""
    pairs = zip(base.levels, now.levels, strict=True)
    return {after.level: before.pass_at_1.mean - after.pass_at_1.mean for before, after in pairs}


def forgetting_warnings(base: Evaluation, now: Evaluation, margin: float) -> list[str]:
    """A warning for each level whose pass@1 fell more than `margin` below the base's."""
    return [
        f"Level {before.level} has fallen from {before.pass_at_1.mean:.0%} to {after.pass_at_1.mean:.0%}. "
        "If it stays down, give it more weight in data.levels, or lower optimizer.learning_rate."
        for before, after in zip(base.levels, now.levels, strict=True)
        if before.pass_at_1.mean - after.pass_at_1.mean > margin
    ]


def rescue_line(metrics: Sequence[Mapping[str, float]], source: str) -> str:
    """What became of the problems all of whose attempts failed; empty if there were none."""
    failed, rescued = total(metrics, "failed_groups"), total(metrics, "rescued_groups")
    if not failed:
        return ""
    if source == "none":
        return f"{failed:.0f} times all attempts at a problem failed, and nothing was learned from them. "
    lesson = "an explanation" if source == "self" else "the data set's solution"
    return (
        f"{failed:.0f} times all attempts at a problem failed; {rescued:.0f} times {lesson} was learned from instead. "
    )


def total(metrics: Sequence[Mapping[str, float]], name: str) -> float:
    """Sum over steps; a missing number counts as 0."""
    return sum(step.get(name, 0) for step in metrics)


def mean(metrics: Sequence[Mapping[str, float]], name: str) -> float:
    """Mean over steps."""
    return total(metrics, name) / len(metrics)
