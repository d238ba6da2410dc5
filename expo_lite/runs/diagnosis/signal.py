"""Is there anything to learn from? Groups that all failed or are all solved have no gradient."""

from __future__ import annotations

from collections.abc import Sequence

from expo_lite.runs.diagnosis.evidence import MOSTLY, Evidence, Finding, Step, groups, has_signal, signal, total
from expo_lite.runs.diagnosis.explanations import none_accepted
from expo_lite.runs.diagnosis.scores import climbed

FAILED, SOLVED = 0.25, 0.9  # of the groups
SELF = "--explanation.source self"


def no_signal(run: Evidence) -> Finding | None:
    """Why no update was made: every group solved, or failed without a usable explanation."""
    steps = run.recent
    if not steps or has_signal(steps):
        return None
    failed, solved = total(steps, "failed_groups"), total(steps, "solved_groups")
    if solved > failed:
        sentence = "Every rollout is already right, so there is nothing to learn: give data.levels harder problems."
        return Finding("no_signal", "note" if climbed(run) else "serious", sentence, "--data.levels")
    if run.config.explanation.source == "none":
        sentence = (
            "No group holds both right and wrong attempts, so all advantages are 0 and plain GRPO has no gradient. "
            f"{LET_IT}"
        )
        return Finding("no_signal", "serious", sentence, SELF)
    if total(steps, "explanations_written") == 0:
        sentence = f"The failed groups have no expert solutions in this data set: use {SELF}"
        return Finding("no_signal", "serious", sentence, SELF)
    return none_accepted(run)


LET_IT = f"Let the model explain the known answers: {SELF}"


def failed_groups(run: Evidence) -> Finding | None:
    """Many groups fail and nothing is learned from them, though others have signal."""
    steps, source = run.recent, run.config.explanation.source
    failed = total(steps, "failed_groups")
    lost = failed - total(steps, "rescued_groups")
    if source == "self" or not has_signal(steps) or lost < FAILED * groups(steps):
        return None
    severity = "serious" if lost > MOSTLY * groups(steps) else "warning"
    if source == "expert":
        sentence = f"{lost:.0f} of {failed:.0f} failed groups have no expert solution in this data set: use {SELF}"
        return Finding("failed_groups", severity, sentence, SELF)
    sentence = (
        f"In {lost:.0f} of {groups(steps):.0f} groups all attempts failed and nothing was learned: "
        f"all advantages are 0 there. {LET_IT}"
    )
    return Finding("failed_groups", severity, sentence, SELF)


def solved_groups(run: Evidence) -> Finding | None:
    """Nearly all problems were easy from the start; after a climb that is success."""
    steps = run.recent
    solved, of = total(steps, "solved_groups"), groups(steps)
    if not has_signal(steps) or solved < SOLVED * of or climbed(run):
        return None
    sentence = (
        f"{solved:.0f} of {of:.0f} groups are solved in every attempt and teach nothing: "
        "give data.levels harder problems."
    )
    return Finding("solved_groups", "warning", sentence, "--data.levels")


def few_updates(run: Evidence) -> Finding | None:
    """Most steps had nothing to learn from, for no reason that another check names."""
    steps = run.recent
    idle = [step for step in steps if not signal(step) and total([step], "solved_groups") < groups([step])]
    if not has_signal(steps) or len(idle) <= MOSTLY * len(steps) or failed_groups(run):
        return None
    more = f"--rollout.prompts-per-step {2 * run.config.rollout.prompts_per_step}"
    sentence = (
        f"{len(idle)} of {len(steps)} steps had nothing to learn from and made no update: raise "
        "rollout.prompts_per_step or rollout.group_size, so that each step finds problems that sometimes succeed."
    )
    return Finding("few_updates", "warning", sentence, more)


def updating(run: Evidence) -> Finding | None:
    """Good: most steps make an update."""
    made = sum(total([step], "updates") > 0 for step in run.metrics)
    if not run.metrics or made <= MOSTLY * len(run.metrics):
        return None
    return Finding("updating", "good", f"{made} of {len(run.metrics)} steps made an update.")


def rescued(run: Evidence) -> Finding | None:
    """Good: most failed problems are learned from all the same."""
    failed, saved = total(run.metrics, "failed_groups"), total(run.metrics, "rescued_groups")
    if not failed or saved <= MOSTLY * failed:
        return None
    return Finding("rescued", "good", rescue_line(run.metrics, run.config.explanation.source))


def rescue_line(metrics: Sequence[Step], source: str) -> str:
    """What became of the problems all of whose attempts failed; empty if there were none."""
    failed, saved = total(metrics, "failed_groups"), total(metrics, "rescued_groups")
    if not failed:
        return ""
    if source == "none":
        return f"{failed:.0f} times all attempts at a problem failed, and nothing was learned from them."
    lesson = "an explanation" if source == "self" else "the data set's solution"
    return f"{failed:.0f} times all attempts at a problem failed; {saved:.0f} times {lesson} was learned from instead."


CHECKS = (updating, rescued, no_signal, failed_groups, solved_groups, few_updates)
