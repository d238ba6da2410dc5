"""What the update's meter adds up: each token counts in the sums that it belongs to, and in no other."""

from __future__ import annotations

import pytest
import torch

from expo_lite.core.records import TrainingSequence
from expo_lite.training.metrics import UpdateMeter
from expo_lite.training.micro_batches import MicroBatch, collate


def batch() -> MicroBatch:
    """A rollout of two tokens and an explanation of one."""
    both = {"reference_logprobs": [-1.5, -2.0], "sampler_logprobs": [-1.0, -1.0]}
    rollout = TrainingSequence([1], [2, 3], advantage=1.0, policy_weight=0.5, **both)
    explanation = TrainingSequence([1], [4], likelihood_weight=0.5, reference_logprobs=[-1.0])
    return collate([rollout, explanation], 0, torch.device("cpu"))


def sums(logprobs: list[float], entropy: list[float]) -> dict[str, float]:
    found = UpdateMeter.sums_of(batch(), torch.tensor(logprobs), torch.tensor(entropy))
    return {name: value.item() for name, value in found.items()}


OF_ROLLOUTS = {"policy_tokens": 2.0, "own_tokens": 2.0, "entropy": 0.75, "gap": 1.0, "kl": 0.5}
OF_EXPLANATIONS = {"explanation_tokens": 1.0, "explanation_nll": 3.0}


def test_sums_by_hand() -> None:
    assert sums([-1.0, -2.0, -3.0], [0.25, 0.5, 0.125]) == {
        **OF_ROLLOUTS,
        **OF_EXPLANATIONS,
        "answer_logprob": 0.0,
        "answers": 0.0,
    }


@pytest.mark.parametrize(
    ("logprobs", "entropy", "untouched"),
    [
        ([-1.0, -2.0, -torch.inf], [0.25, 0.5, torch.nan], OF_ROLLOUTS),
        ([-torch.inf, -torch.inf, -3.0], [torch.nan, torch.nan, 0.125], OF_EXPLANATIONS),
    ],
    ids=["explanation", "rollout"],
)
def test_what_is_not_finite_spoils_only_its_own_sums(
    logprobs: list[float], entropy: list[float], untouched: dict[str, float]
) -> None:
    found = sums(logprobs, entropy)
    assert {name: found[name] for name in untouched} == untouched
