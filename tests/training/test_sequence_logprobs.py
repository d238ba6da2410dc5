"""Log-probabilities of given completions: those of a plain forward, in order, however they are cut."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import live_units, tiny_policy

from expo_lite.core.records import TrainingSequence
from expo_lite.model.policy import Policy
from expo_lite.model.prefix_tree import PrefixTree
from expo_lite.training.sequence_logprobs import sequence_logprobs

SEQUENCES = [
    TrainingSequence([5, 6, 7], [8, 9, 10, 11, 12, 2]),
    TrainingSequence([5], [9]),
    TrainingSequence([7, 7, 7, 7], [10, 11]),
    TrainingSequence([5], [9]),
]


def plain(policy: Policy, sequence: TrainingSequence) -> torch.Tensor:
    """From all logits of one unpadded row."""
    ids, first = sequence.prompt_ids + sequence.completion_ids, len(sequence.prompt_ids)
    logits = policy.causal_lm(input_ids=torch.tensor([ids])).logits[0, first - 1 : -1]
    return torch.log_softmax(logits, 1)[range(len(sequence.completion_ids)), sequence.completion_ids]


@pytest.mark.parametrize("tokens", [1, 12, 1000])
def test_are_those_of_a_plain_forward_in_order(tokens: int) -> None:
    policy = tiny_policy()
    found = sequence_logprobs(SEQUENCES, policy, live_units(tokens=tokens, chunk=3))
    assert len(found) == len(SEQUENCES)
    for sequence, logprobs in zip(SEQUENCES, found, strict=True):
        torch.testing.assert_close(logprobs, plain(policy, sequence).detach(), rtol=1e-4, atol=1e-5)
        assert not logprobs.requires_grad


def test_no_sequences() -> None:
    assert sequence_logprobs([], tiny_policy(), live_units()) == []


def test_goes_on_in_halves_where_memory_runs_out() -> None:
    policy, units = tiny_policy(), live_units()
    expected = sequence_logprobs(SEQUENCES, policy, units)
    whole = policy.completion_logprobs

    def cramped(inputs: torch.Tensor | PrefixTree, *rest: torch.Tensor) -> object:
        if len(inputs.rows if isinstance(inputs, PrefixTree) else inputs) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(inputs, *rest)  # type: ignore[arg-type]

    policy.completion_logprobs = cramped  # type: ignore[method-assign, assignment]
    for one, same in zip(sequence_logprobs(SEQUENCES, policy, units), expected, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-4, atol=1e-5)
    assert units.halvings > 0
