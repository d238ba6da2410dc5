"""Preference pairs for DPO, and what each of their tokens weighs in its loss.

The gradient of a pair's loss is a constant, which depends on the whole of both sequences, times the gradients of
their log-probabilities. With that constant as a weight, the loss is a plain sum over tokens as in GRPO: the two
sequences of a pair need not be in memory together, and micro-batches are cut in any way.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from expo_lite.config.settings import Config, DPOConfig
from expo_lite.core.records import Explanation, PreferencePair, RolloutGroup, TrainingSequence, Verdict
from expo_lite.training.losses import dpo_losses

NOT_WRONG = (Verdict.CORRECT, Verdict.TIMEOUT)


def preference_pairs(
    groups: Sequence[RolloutGroup], explanations: Sequence[Sequence[Explanation]], config: Config, draw: int
) -> list[PreferencePair]:
    """Each chosen explanation (by prompt) before a wrong rollout of its group, which the seed and `draw` decide.

    A rollout that could not be judged in time is none to be made less likely; nor is, with `objective.mask_truncated`,
    one that was cut off.
    """
    pairs = []
    for group, of_prompt in zip(groups, explanations, strict=True):
        wrong = [rollout.completion for rollout in group.rollouts if rollout.verdict not in NOT_WRONG]
        if config.objective.mask_truncated:
            wrong = [completion for completion in wrong if completion.finished]
        rng = random.Random(f"{config.seed}/{draw}/{group.problem.id}/rejected")
        for explanation in of_prompt if wrong else ():
            rejected = rng.choice(wrong)
            pairs.append(
                PreferencePair(
                    TrainingSequence(
                        explanation.unhinted_ids,
                        explanation.completion.completion_ids,
                        answer_span=explanation.answer_span,
                    ),
                    TrainingSequence(explanation.unhinted_ids, rejected.completion_ids),
                )
            )
    return pairs


def preference_weights(
    scored: Sequence[TrainingSequence], config: DPOConfig
) -> tuple[list[TrainingSequence], dict[str, float]]:
    """Chosen and rejected sequences in turn, with log-probabilities, -> with weights; and the pairs' metrics.

    The loss is the mean over pairs of DPO's, plus `nll_weight` times the mean over pairs of the chosen's negative
    log-likelihood per token. A sequence's tokens weigh minus the derivative by its summed log-probability.
    """
    chosen, rejected = scored[::2], scored[1::2]
    sums = [_sums(side, "old_logprobs").requires_grad_() for side in (chosen, rejected)]
    references = [_sums(side, "reference_logprobs") for side in (chosen, rejected)]
    losses, margins = dpo_losses(sums[0], sums[1], references[0], references[1], config.beta)
    chosen_slopes, rejected_slopes = torch.autograd.grad(losses.mean(), sums)
    weights = []
    for pair, slopes in enumerate(zip(chosen_slopes.tolist(), rejected_slopes.tolist(), strict=True)):
        likelihood = config.nll_weight / (len(chosen) * len(chosen[pair].completion_ids))
        weights += [likelihood - slopes[0], -slopes[1]]
    weighted = [
        replace(sequence, likelihood_weight=weight, old_logprobs=None, reference_logprobs=None)
        for sequence, weight in zip(scored, weights, strict=True)
    ]
    metrics = {
        "pairs": len(chosen),
        "dpo_loss": losses.mean().item(),
        "dpo_margin_nats": margins.mean().item(),
        "dpo_accuracy_share": (margins > 0).double().mean().item(),
    }
    return weighted, metrics


def _sums(sequences: Sequence[TrainingSequence], name: str) -> Tensor:
    """Log-probabilities summed over each sequence's completion, (pairs,), in double precision."""
    return torch.tensor([sum(getattr(sequence, name)) for sequence in sequences], dtype=torch.float64)
