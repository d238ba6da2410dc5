"""What held-out problems say: levels that climb, levels that are forgotten, and levels that do not move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expo_lite.runs.diagnosis.evidence import Evidence, Finding, average, total

ENOUGH_UPDATES = 20
STILL = 0.02  # pass@1
NEARLY_ALL = 0.95
FASTER = 3
OF = {"validation": "base_validation", "test": "base_test"}
"""Which record of the base a record of the policy is compared with."""

Levels = Sequence[Mapping[str, Any]]
Change = dict[int, tuple[float, float]]
"""pass@1 before and now, by level."""


def pass_at_1(base: Levels, now: Levels) -> Change:
    """Of the levels that both were scored on."""
    before = {score["level"]: score["pass_at_1"]["mean"] for score in base}
    both = [score for score in now if score["level"] in before]
    return {score["level"]: (before[score["level"]], score["pass_at_1"]["mean"]) for score in both}


def forgotten(base: Levels, now: Levels) -> dict[int, float]:
    """By how much each level's pass@1 has fallen below the base's; negative where it has risen."""
    return {level: was - now for level, (was, now) in pass_at_1(base, now).items()}


def newest(run: Evidence) -> Change:
    """The newest scores against the base's on the same problems; empty before the first."""
    by_name = {record.get("name"): record for record in run.evaluations}
    latest = [record for record in run.evaluations if OF.get(record.get("name", "")) in by_name]
    if not latest:
        return {}
    return pass_at_1(by_name[OF[latest[-1]["name"]]]["levels"], latest[-1]["levels"])


def in_words(change: Change) -> str:
    """`level 2 from 90% to 60%, level 4 from ...`"""
    return ", ".join(f"level {level} from {was:.0%} to {now:.0%}" for level, (was, now) in change.items())


def climbed(run: Evidence) -> Change:
    """Levels that have risen by more than the margin that counts as forgetting when they fall."""
    margin = run.config.evaluation.forgetting_margin
    return {level: (was, now) for level, (was, now) in newest(run).items() if now - was > margin}


def climbing(run: Evidence) -> Finding | None:
    """Good: what was too hard is solved."""
    change = climbed(run)
    return Finding("climbing", "good", f"Climbed: {in_words(change)} (pass@1).") if change else None


def forgetting(run: Evidence) -> Finding | None:
    """Levels that fell by more than the margin below the base."""
    margin = run.config.evaluation.forgetting_margin
    fallen = {level: (was, now) for level, (was, now) in newest(run).items() if was - now > margin}
    if not fallen:
        return None
    first, *others = (f"from {was:.0%} to {now:.0%}" for was, now in fallen.values())
    levels = list(fallen)
    more = "".join(f", level {level} {words}" for level, words in zip(levels[1:], others, strict=True))
    said = f"Level {levels[0]} has fallen {first}{more}."
    if run.is_dpo:
        setting = f"--dpo.beta {2 * run.config.dpo.beta:g}"
        cure = "Solved problems make no pairs, so DPO does not hold them: raise dpo.beta, or lower "
        return Finding("forgetting", "warning", f"{said} {cure}optimizer.learning_rate.", setting)
    cure = "If it stays down, give it more weight in data.levels, or lower optimizer.learning_rate."
    return Finding("forgetting", "warning", f"{said} {cure}", more_weight(run, levels))


def more_weight(run: Evidence, levels: Sequence[int]) -> str:
    """The flag that draws these levels twice as often."""
    weights = dict(run.config.data.levels)
    weights |= {level: 2 * (weights.get(level) or 0.5) for level in levels}
    return "--data.levels " + ",".join(f"{level}={weights[level]:g}" for level in sorted(weights))


def standstill(run: Evidence) -> Finding | None:
    """Updates are made and nothing moves."""
    change, updates = newest(run), total(run.metrics, "updates")
    if not change or updates < ENOUGH_UPDATES or average([now for _, now in change.values()]) > NEARLY_ALL:
        return None
    if any(abs(now - was) > STILL for was, now in change.values()):
        return None
    rate = run.config.optimizer.learning_rate
    sentence = (
        f"{updates:.0f} updates at a learning rate of {rate:g} have not moved any level ({in_words(change)}): "
        "raise optimizer.learning_rate."
    )
    return Finding("standstill", "warning", sentence, f"--optimizer.learning-rate {FASTER * rate:g}")


CHECKS = (climbing, forgetting, standstill)
