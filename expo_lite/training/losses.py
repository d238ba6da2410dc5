"""The loss terms: pure functions on flat tensors of N completion tokens.

Each token carries its weight, which holds the step's denominator (see `rollout_token_weight` and
`explanation_token_weights`). So a loss is a plain sum, the same however the step is cut into
micro-batches, and leaving out tokens without gradient changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

EXTREME = 60.0
"""Nats. A token whose probability has changed by more than e^60 gives no gradient."""


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """- sum_t w_t min(rho_t A_t, clip(rho_t, 1 - eps, 1 + eps) A_t), rho = exp(logprobs - old_logprobs).

    All tensors (N,). PPO's clipped surrogate (arXiv 1707.06347, eq. 7) with GRPO's advantages.
    """
    ratio = torch.exp(_weighing(logprobs - old_logprobs, weights * advantages))
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).sum()


def explanation_loss(logprobs: Tensor, weights: Tensor) -> Tensor:
    """- sum_t w_t log pi(token_t | unhinted prompt, tokens before): ExPO's extra term. Tensors (N,)."""
    return -(weights * torch.where(weights != 0, logprobs, 0.0)).sum()


def kl_loss(logprobs: Tensor, reference_logprobs: Tensor, weights: Tensor) -> Tensor:
    """sum_t w_t (exp(d) - d - 1), d = reference - policy: the k3 estimate of KL(policy || reference)."""
    difference = _weighing(reference_logprobs - logprobs, weights)
    return (weights * (difference.exp() - difference - 1)).sum()


def _weighing(difference: Tensor, weights: Tensor) -> Tensor:
    """Differences of log-probabilities (N,), fit for exp: 0 where nothing weighs, and no larger than EXTREME.

    Else exp would overflow, and 0 times infinity, here or in the backward pass, spoil the gradients of all tokens.
    """
    return torch.where(weights != 0, difference, 0.0).clamp(max=EXTREME)


def dpo_losses(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """- log sigmoid(beta m) of each pair, and the margin m = (chosen - reference) - (rejected - reference).

    All tensors (pairs,): log-probabilities summed over a completion's tokens. arXiv 2305.18290, eq. 7.
    """
    margins = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -torch.nn.functional.logsigmoid(beta * margins), margins


def rollout_token_weight(
    loss: Literal["grpo", "dr_grpo", "dapo"],
    completion_tokens: int,
    rollouts_in_step: int,
    tokens_in_step: int,
    max_new_tokens: int,
) -> float:
    """What one token of a rollout weighs in the policy term.

    Denominators count every rollout sampled in the step, also those of groups without signal:
    grpo 1 / (P G |o|), dapo 1 / sum |o|, dr_grpo 1 / (P G max_new_tokens). Where rollouts that were cut off are masked,
    dapo's sum is over the others.
    """
    if loss == "grpo":
        return 1 / (rollouts_in_step * completion_tokens)
    if loss == "dapo":
        return 1 / tokens_in_step
    return 1 / (rollouts_in_step * max_new_tokens)


def explanation_token_weights(tokens_by_prompt: Sequence[Sequence[int]], weight: float) -> list[list[float]]:
    """What one token of each explanation weighs, given token counts by prompt and explanation.

    Mean over tokens, then over a prompt's explanations, then over the prompts that have one, times
    `weight`. The denominator is the term's own, so rollouts do not dilute it, nor it them.
    """
    prompts = sum(1 for tokens in tokens_by_prompt if tokens)
    return [[weight / (prompts * len(tokens) * count) for count in tokens] for tokens in tokens_by_prompt]
