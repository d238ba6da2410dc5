"""A step -> flat numbers, with the unit at the end of each name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expo_lite.core.records import REJECTIONS, Explanation, RolloutGroup, Verdict
from expo_lite.model.prompts import answer_position
from expo_lite.problems.tiny_world import steps_right
from expo_lite.training.micro_batches import MicroBatch

PHASES = ("generate", "verify", "explain", "train")


@dataclass
class PhaseClock:
    """Seconds spent in each named phase of a step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


@dataclass
class UpdateMeter:
    """Gathers an update's numbers on the device and reads them once at its end."""

    learning_rate: float
    updates: int = 0
    gradient_norm: float | None = None
    sums: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    @torch.no_grad()
    def sums_of(batch: MicroBatch, logprobs: Tensor, entropy: Tensor) -> dict[str, Tensor]:
        """Sums over one micro-batch's rollout tokens and explanation tokens; tensors (N,) in, scalars out.

        DPO's rollouts are those that it makes less likely.
        """
        policy, explanation = batch.is_policy, batch.likelihood_weights > 0
        own = policy | (batch.likelihood_weights < 0)
        sums = {
            "policy_tokens": policy.float().sum(),
            "own_tokens": own.float().sum(),
            "entropy": _sum_where(own, entropy),
            "explanation_tokens": explanation.float().sum(),
            "explanation_nll": -_sum_where(explanation, logprobs),
            "answer_logprob": _sum_where(batch.in_answer, logprobs),
            "answers": torch.tensor(float(sum(row.answer_span is not None for row in batch.sequences))).to(logprobs),
        }
        if batch.sampler_logprobs is not None:
            sums["gap"] = _sum_where(policy, (logprobs - batch.sampler_logprobs).abs())
        if batch.reference_logprobs is not None:
            sums["kl"] = _sum_where(policy, logprobs - batch.reference_logprobs)
        return sums

    def add(self, sums: dict[str, Tensor]) -> None:
        """Add a micro-batch's sums."""
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def metrics(
        self, read: Callable[[Tensor], Any], add_up: Callable[[dict[str, float]], dict[str, float]] = dict
    ) -> dict[str, float]:
        """Means per token, or per answer. Quantities without tokens are left out rather than called 0.

        `add_up` adds the sums of all processes that train together.
        """
        out: dict[str, float] = {"updates": self.updates, "learning_rate": self.learning_rate}
        if self.gradient_norm is not None:
            out["gradient_norm"] = self.gradient_norm
        own = dict(zip(self.sums, read(torch.stack(list(self.sums.values()))), strict=True)) if self.sums else {}
        sums = add_up(own)
        for name, total, tokens in (
            ("entropy_nats", "entropy", "own_tokens"),
            ("sampler_trainer_gap_nats", "gap", "policy_tokens"),
            ("kl_nats", "kl", "policy_tokens"),
            ("explanation_nll_nats", "explanation_nll", "explanation_tokens"),
            ("explanation_answer_logprob_nats", "answer_logprob", "answers"),
        ):
            if sums.get(tokens) and total in sums:
                out[name] = sums[total] / sums[tokens]
        return out


def step_metrics(
    groups: Sequence[RolloutGroup],
    explanations: Sequence[Sequence[Explanation]],
    trained_on: Sequence[Sequence[Explanation]],
    update: dict[str, float],
    clock: PhaseClock,
) -> dict[str, float]:
    """The numbers of one step. Nothing here is read back by training."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    kinds = Counter(group.kind for group in groups)
    failed = {group.problem.id for group in groups if group.kind == "failed"}
    explained = {chosen[0].problem.id for chosen in trained_on if chosen}
    by_pairs = "pairs" in update  # DPO, where advantages teach nothing
    taught = [(group.has_signal and not by_pairs) or group.problem.id in explained for group in groups]
    written = [r.completion for r in rollouts] + [e.completion for of_prompt in explanations for e in of_prompt]
    return {
        "reward_mean": _mean([r.reward for r in rollouts]),
        **{f"{kind}_groups": kinds[kind] for kind in ("failed", "mixed", "solved")},
        "rescued_groups": sum(bool(chosen) and chosen[0].problem.id in failed for chosen in trained_on),
        "groups_with_signal": sum(group.has_signal for group in groups),
        "groups_taught": sum(taught),
        "generated_tokens": sum(len(c.logprobs) for c in written),  # an expert's solution has none of the sampler's
        "completion_tokens_mean": _mean([len(r.completion.completion_ids) for r in rollouts]),
        "truncated_share": _mean([not r.completion.finished for r in rollouts]),
        **{f"{_name(verdict)}_share": share for verdict, share in _verdict_shares(groups).items()},
        **_explanation_metrics(explanations),
        "explanations_trained": sum(map(len, trained_on)),
        **_wrong_steps(explanations, trained_on),
        **update,
        **{f"{phase}_seconds": seconds for phase, seconds in clock.seconds.items()},
    }


def _verdict_shares(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    verdicts = [rollout.verdict.value for group in groups for rollout in group.rollouts]
    return {name: verdicts.count(name) / len(verdicts) for name in ("no answer", "timeout")}


def _explanation_metrics(explanations: Sequence[Sequence[Explanation]]) -> dict[str, float]:
    """How many were written, why they were turned down, and where the told answer first appears."""
    written = [e for of_problem in explanations for e in of_problem]
    reasons = Counter(e.rejected for e in written)
    places = [answer_position(e.completion.text, e.problem.answer) for e in written if e.rejected is None]
    found = [place for place in places if place is not None]
    return {
        "explanations_written": len(written),
        "explanations_accepted": reasons[None],
        **{f"explanations_rejected_{reason}": reasons[reason] for reason in REJECTIONS},
        **({"explanation_answer_position_share": _mean(found)} if found else {}),
    }


def _wrong_steps(
    explanations: Sequence[Sequence[Explanation]], trained_on: Sequence[Sequence[Explanation]]
) -> dict[str, float]:
    """Where steps can be checked, as those of sums: how many explanations with a right answer are right throughout."""

    def checked(sets: Sequence[Sequence[Explanation]]) -> list[bool]:
        right = [e for of_problem in sets for e in of_problem if e.verdict is Verdict.CORRECT]
        found = [steps_right(e.problem.question, e.completion.text) for e in right]
        return [sound for sound in found if sound is not None]

    written, trained = checked(explanations), checked(trained_on)
    return {
        **({"explanations_steps_right_share": _mean(written)} if written else {}),
        **({"explanations_trained_wrong_steps": trained.count(False)} if trained else {}),
    }


def _sum_where(counts: Tensor, values: Tensor) -> Tensor:
    """The sum of the values (N,) that count. Not a product: 0 times what is not finite is nan."""
    return torch.where(counts, values, 0.0).sum()


def _name(verdict: str) -> str:
    return verdict.replace(" ", "_")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
