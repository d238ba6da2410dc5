"""Are explanations fit to be trained on, and is what is trained on natural, sound and free of the hint?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from expo_lite.config.settings import ExplanationConfig
from expo_lite.runs.diagnosis.attempts import longer
from expo_lite.runs.diagnosis.evidence import (
    MOSTLY,
    Evidence,
    Finding,
    has_signal,
    mean,
    problem_of,
    sample_case,
    total,
)
from expo_lite.training.false_steps import false_step
from expo_lite.training.hint_leaks import leaked_phrase

REASONS = {
    "incomplete": "cut off before they ended: raise rollout.max_new_tokens",
    "unverified": "wrong even though the answer was told: start from easier problems (data.levels)",
    "leak": "betraying that the answer was told: reword prompt.hinted",
    "bare_answer": "naming the answer without a step towards it: ask for steps in prompt.hinted",
    "false_step": "holding a false calculation: start from easier problems (data.levels)",
}
WORSE = (
    "wrong even though the answer was told, and earlier most were not: the base would perhaps write more that hold "
    "(explanation.explained_by base; whether more is learned from them is not known)"
)
LEAKING = 0.2  # of the explanations written
UNLIKELY = 1.0  # nats per token; self-explanations of the tiny base are at 0.0 to 0.6, the experts' above 1.5


def none_accepted(run: Evidence) -> Finding:
    """Why no explanation of the failed groups was accepted, with an example of the commonest reason."""
    reason, share = worst_reason(run)
    sentence = f"No explanation of the failed groups was accepted: {share} were {because(run, reason)}."
    return Finding("no_signal", "serious", sentence, remedy(run, reason), example(run, reason))


def rejected(run: Evidence) -> Finding | None:
    """Most explanations are turned down."""
    steps = run.recent
    written, accepted = total(steps, "explanations_written"), total(steps, "explanations_accepted")
    if not has_signal(steps) or not written or written - accepted <= MOSTLY * written:
        return None
    reason, share = worst_reason(run)
    sentence = f"Only {accepted:.0f} of {written:.0f} explanations were accepted: {share} were {because(run, reason)}."
    return Finding("rejected_explanations", "warning", sentence, remedy(run, reason), example(run, reason))


def worst_reason(run: Evidence) -> tuple[str, str]:
    """The commonest reason, and "5 of 8"."""
    counts = {reason: total(run.recent, f"explanations_rejected_{reason}") for reason in REASONS}
    worst = max(counts, key=lambda reason: counts[reason])
    return worst, f"{counts[worst]:.0f} of {total(run.recent, 'explanations_written'):.0f}"


def because(run: Evidence, reason: str) -> str:
    """The reason in words, with what to do."""
    return WORSE if reason == "unverified" and explains_worse(run) else REASONS[reason]


def explains_worse(run: Evidence) -> bool:
    """Whether most explanations of earlier steps were accepted: then the model has learned to pass over the hint."""
    earlier = run.metrics[: -len(run.recent)]
    written, accepted = total(earlier, "explanations_written"), total(earlier, "explanations_accepted")
    return run.config.explanation.explained_by == "policy" and accepted > MOSTLY * written


def remedy(run: Evidence, reason: str) -> str:
    """The setting that works against a reason."""
    if because(run, reason) == WORSE:
        return "--explanation.explained-by base"
    remedies = {"incomplete": longer(run.config), "unverified": "--data.levels", "false_step": "--data.levels"}
    return remedies.get(reason, "--prompt.hinted")


def example(run: Evidence, reason: str) -> tuple[dict[str, Any], ...]:
    """The last recorded explanation that was turned down for this reason."""
    found = [sample for sample in run.explanations() if sample.get("rejected") == reason]
    return tuple(sample_case(sample) for sample in found[-1:])


def leaks(run: Evidence) -> Finding | None:
    """Many explanations betray the hint; they are turned down, and cost their sampling."""
    written, caught = total(run.recent, "explanations_written"), total(run.recent, "explanations_rejected_leak")
    if not written or caught <= LEAKING * written or rejected(run) or not has_signal(run.recent):
        return None
    sentence = f"{caught:.0f} of {written:.0f} explanations were {REASONS['leak']}."
    return Finding("leaks", "warning", sentence, remedy(run, "leak"), example(run, "leak"))


def trained_leaks(run: Evidence) -> Finding | None:
    """Without its filter, explanations that betray the hint are trained on."""
    if run.config.explanation.source != "self" or "no_leak" in run.config.explanation.filters:
        return None
    chosen = [sample for sample in run.explanations() if sample.get("trained")]
    leaking = [(sample, phrase) for sample in chosen if (phrase := leak_of(sample))]
    if not leaking:
        return None
    last, phrase = leaking[-1]
    sentence = (
        f"{len(leaking)} of {len(chosen)} explanations trained on betray that the answer was told "
        f'("{phrase}"): put no_leak back into explanation.filters.'
    )
    return Finding("trained_leaks", "serious", sentence, with_filter(run, "no_leak"), (sample_case(last),))


def leak_of(sample: Mapping[str, Any]) -> str | None:
    """The words of a recorded explanation that betray the hint, or None."""
    return leaked_phrase(str(sample.get("text", "")), problem_of(sample))


def trained_wrong(run: Evidence) -> Finding | None:
    """Without its filter, explanations that arrive elsewhere are trained on."""
    chosen = [sample for sample in run.explanations() if sample.get("trained")]
    wrong = [sample for sample in chosen if sample.get("verdict") != "correct"]
    if not wrong or "verified" in run.config.explanation.filters:
        return None
    sentence = (
        f"{len(wrong)} of {len(chosen)} explanations trained on do not arrive at the known answer: "
        "put verified back into explanation.filters."
    )
    return Finding("trained_wrong", "serious", sentence, with_filter(run, "verified"), (sample_case(wrong[-1]),))


def unlikely(run: Evidence) -> Finding | None:
    """What is trained on is not how the model would have put it."""
    nats = mean(run.recent, "explanation_nll_nats")
    if nats <= UNLIKELY:
        return None
    self_made = run.config.explanation.source == "self"
    setting = "--explanation.selection likeliest" if self_made else "--explanation.source self"
    if self_made and run.is_dpo:  # which can make what is preferred unlikely, as long as the rejected falls faster
        setting = "--dpo.nll_weight 0.1"
    sentence = (
        f"The explanations trained on are unlikely to the model itself, at {nats:.2f} nats a token (a probability of "
        f"{math.exp(-nats):.0%}) without the hint: slow to learn, and unsettling for what it can do. Try {setting}"
    )
    return Finding("unlikely_explanations", "warning", sentence, setting)


def wrong_steps(run: Evidence) -> Finding | None:
    """Where steps can be checked: right answers by wrong steps."""
    name = "explanations_steps_right_share"
    if not any(name in step for step in run.recent) or (share := mean(run.recent, name)) >= MOSTLY:
        return None
    trained = [sample for sample in run.explanations() if sample.get("trained")]
    false = [sample for sample in trained if false_step(str(sample.get("text", "")))]
    setting = with_filter(run, "true_steps") if false else "--explanation.selection likeliest"
    if run.config.explanation.source == "expert":
        setting = "--explanation.source self"
    sentence = (
        f"Only {share:.0%} of the explanations that arrive at the told answer are right in every step, and no filter "
        f"in use sees it. Try {setting}, or easier data.levels."
    )
    return Finding("wrong_steps", "warning", sentence, setting, tuple(map(sample_case, false[-1:])))


def with_filter(run: Evidence, name: str) -> str:
    """The setting for a filter beside those that the run has and those that are on by default."""
    names = {*ExplanationConfig().filters, *run.config.explanation.filters, name}
    return f"--explanation.filters {','.join(sorted(names))}"


CHECKS = (rejected, leaks, trained_leaks, trained_wrong, unlikely, wrong_steps)
