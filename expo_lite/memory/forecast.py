"""How long a whole run takes, part by part: from a pace, the settings, and a few assumptions that are said beside it.

Where more completions are to be written than fit at once, others begin where some have ended; the last ones take as
long as the longest of them, so what counts is the expected longest of so many. Judging (about 10 ms an answer), loading
and saving are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from statistics import NormalDist

from expo_lite.config.settings import Config
from expo_lite.memory.pace import Pace

FACTOR = "three"  # that a forecast from a data sheet may be off by; tests/memory/test_forecast_anchors.py
FAILED_SHARE, MIXED_SHARE = 0.4, 0.4  # of groups, assumed: none right, some right; the others are solved
PROMPT_SHARE = 0.4  # mean length of a prompt, of rollout.max_prompt_tokens, assumed
TYPICAL_LENGTH, SPREAD = 0.35, 0.5  # completions: log-normal, the median as a share of the limit, assumed
OCCUPIED = 0.875  # of the rows are being written, where others begin once a quarter has ended (model/sampler)
SLICES = 200  # of the limit, in the integral over lengths


@dataclass(frozen=True)
class HeldOut:
    """How many problems are answered: in each validation, and in the test before step 1 and at the end."""

    validation: int
    test: int


@dataclass(frozen=True)
class Part:
    """One part of a run: its seconds in all, and how they were counted."""

    name: str
    seconds: float
    how: str


@dataclass(frozen=True)
class Forecast:
    """Seconds by part."""

    before: Part
    rollouts: Part
    explanations: Part
    training: Part
    scores: Part
    steps: int
    validations: int
    validation: float  # seconds of one

    @property
    def parts(self) -> list[Part]:
        """In the order of the run."""
        return [self.before, self.rollouts, self.explanations, self.training, self.scores]

    @property
    def total(self) -> float:
        """Seconds of the whole run."""
        return sum(part.seconds for part in self.parts)

    @property
    def least(self) -> float:
        """Seconds if every group is solved: no explanation is written then, and nothing is trained on."""
        return self.total - self.explanations.seconds - self.training.seconds

    @property
    def range_in_words(self) -> str:
        """From all groups solved to as many failed as assumed: "2 to 3 min"."""
        low, high = in_words(self.least), in_words(self.total)
        number, unit = low.split()
        return high if low == high else f"{number if unit == high.split()[1] else low} to {high}"

    @property
    def generate(self) -> float:
        """Seconds of one step that rollouts and explanations take."""
        return (self.rollouts.seconds + self.explanations.seconds) / self.steps

    @property
    def train(self) -> float:
        """Seconds of one step that its update takes."""
        return self.training.seconds / self.steps


def forecast(config: Config, alive: int, pace: Pace, held_out: HeldOut) -> Forecast:
    """Seconds of a run with `alive` rollouts at once, if lengths of completions and failed groups are as assumed."""
    rollout, steps, samples = config.rollout, config.steps, config.evaluation.samples
    completions = rollout.prompts_per_step * rollout.group_size
    explained = explanations_per_step(config)

    def writing(count: float) -> float:
        return writing_seconds(config, alive, pace, count)

    validations = ceil(steps / config.evaluation.every)
    validation, test = writing(held_out.validation * samples), writing(held_out.test * samples)
    tokens = trained_tokens_per_step(config)
    answers = "answer" if samples == 1 else "answers"
    scored = f"{held_out.validation} validation and {held_out.test} test problems, {samples} {answers} each"
    return Forecast(
        before=Part("scores before step 1", validation + test, scored),
        rollouts=Part("rollouts", steps * writing(completions), f"{steps} steps of {_written(completions, alive)}"),
        explanations=Part("explanations", steps * writing(explained), f"{steps} steps of {_written(explained, alive)}"),
        training=Part("training", steps * tokens * pace.trained_token, f"{steps} steps of {tokens:,.0f} tokens"),
        scores=Part(
            "validation and final test",
            validations * validation + test,
            f"{validations} validations, one every {config.evaluation.every} steps, and one test",
        ),
        steps=steps,
        validations=validations,
        validation=validation,
    )


def explanations_per_step(config: Config) -> float:
    """Self-explanations written in a step, if as many groups fail as assumed."""
    if config.explanation.source != "self":
        return 0.0
    return gated_share(config) * config.rollout.prompts_per_step * config.explanation.samples


def gated_share(config: Config) -> float:
    """Of a step's prompts, those that get explanations. DPO takes every prompt with a wrong rollout."""
    if config.objective.name == "dpo":
        return FAILED_SHARE + MIXED_SHARE
    return 1.0 if config.explanation.gate == "every" else FAILED_SHARE


def trained_tokens_per_step(config: Config) -> float:
    """Tokens that a step trains on: groups with signal, and one explanation of each gated prompt (or a pair of DPO's).

    A pass without gradients counts as a third: the reference's of the KL term, the two before DPO's update.
    """
    rollout, explanation = config.rollout, config.explanation
    if config.objective.name == "dpo":
        sequences = gated_share(config) * 2 * (1 + 2 / 3)
    else:
        kl = config.kl.coef > 0
        chosen = explanation.samples if explanation.selection == "all" and explanation.source == "self" else 1
        explained = 0.0 if explanation.source == "none" else gated_share(config) * chosen
        sequences = (1 if kl else MIXED_SHARE) * rollout.group_size * (4 / 3 if kl else 1) + explained
    length = PROMPT_SHARE * rollout.max_prompt_tokens + longest_share(1) * rollout.max_new_tokens
    return config.objective.updates_per_batch * rollout.prompts_per_step * sequences * length


def writing_seconds(config: Config, alive: int, pace: Pace, completions: float) -> float:
    """Seconds to write so many completions: those that others follow take the mean time, the last ones the longest."""
    last = min(completions, alive)
    if not last:
        return 0.0
    mean = longest_share(1) * config.rollout.max_new_tokens
    cached = PROMPT_SHARE * config.rollout.max_prompt_tokens + mean / 2
    turns = (completions - last) / (OCCUPIED * alive)
    return turns * mean * pace.decoded_token(alive, cached) + last_seconds(config, pace, last)


def last_seconds(config: Config, pace: Pace, rollouts: float) -> float:
    """Seconds of rollouts that no others follow: as many tokens as the longest is expected to have."""
    longest = longest_share(rollouts)
    tokens = longest * config.rollout.max_new_tokens
    cached = PROMPT_SHARE * config.rollout.max_prompt_tokens + tokens / 2
    return tokens * pace.decoded_token(rollouts * longest_share(1) / longest, cached)


def longest_share(rollouts: float) -> float:
    """Expected length of the longest of so many completions, as a share of the limit: the integral of 1 - F(x)^n."""
    lengths = NormalDist(log(TYPICAL_LENGTH), SPREAD)
    middles = ((2 * number + 1) / (2 * SLICES) for number in range(SLICES))
    return sum(1 - lengths.cdf(log(middle)) ** rollouts for middle in middles) / SLICES


def assumptions(config: Config) -> str:
    """What a forecast takes for granted, in one sentence."""
    group = config.rollout.prompts_per_step * config.rollout.group_size
    return (
        f"Assumed: {FAILED_SHARE:.0%} of groups fail and {MIXED_SHARE:.0%} are mixed; completions have "
        f"{longest_share(1):.0%} of rollout.max_new_tokens on average, and the longest of {group} has "
        f"{longest_share(group):.0%}; prompts have {PROMPT_SHARE:.0%} of rollout.max_prompt_tokens. Loading, judging "
        "and saving are not counted."
    )


def within() -> str:
    """How far a forecast from a data sheet can be trusted, and why."""
    return (
        f"an estimate within a factor of {FACTOR}, because the share of the card's peaks that is reached, the host's "
        "time per launch and the lengths of completions are assumed, not measured"
    )


def _written(completions: float, alive: int) -> str:
    if not completions:
        return "none"
    return f"{completions:.0f} completions, {'all' if completions <= alive else alive} at once"


def in_words(seconds: float) -> str:
    """A duration: "0.4 s", "45 s", "12 min", "3.4 h"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
