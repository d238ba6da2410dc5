"""Training sequences -> right-padded micro-batches under a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expo_lite.types import TrainingSequence


@dataclass(frozen=True)
class MicroBatch:
    """B right-padded sequences and, laid end to end, their N completion tokens.

    `positions` (N,) index the flattened (B T) grid at the token BEFORE each completion token, where the
    model predicts it. Masks come from lengths, never from pad ids: the end token is trained like any other.
    """

    sequences: list[TrainingSequence]
    input_ids: Tensor  # (B, T)
    positions: Tensor  # (N,)
    targets: Tensor  # (N,)
    advantages: Tensor  # (N,)
    policy_weights: Tensor  # (N,)
    explanation_weights: Tensor  # (N,)
    sampler_logprobs: Tensor  # (N,), nan where there are none

    @property
    def is_policy(self) -> Tensor:
        """(N,) whether a token belongs to a rollout, whose logits are divided by the temperature."""
        return self.policy_weights > 0


def cut_micro_batches(
    sequences: Sequence[TrainingSequence], token_budget: int, pad_id: int, device: torch.device
) -> list[MicroBatch]:
    """Sequences sorted by length and cut so that rows times longest row stays within `token_budget`.

    A sequence longer than the budget gets a micro-batch of its own.
    """
    rows: list[TrainingSequence] = []
    batches = []
    for sequence in sorted(sequences, key=lambda s: s.length):
        if rows and (len(rows) + 1) * sequence.length > token_budget:
            batches.append(collate(rows, pad_id, device))
            rows = []
        rows.append(sequence)
    return [*batches, collate(rows, pad_id, device)] if rows else batches


def collate(rows: list[TrainingSequence], pad_id: int, device: torch.device) -> MicroBatch:
    """One micro-batch of `rows`, padded to the longest of them."""
    width = max(row.length for row in rows)
    input_ids = [row.prompt_ids + row.completion_ids + [pad_id] * (width - row.length) for row in rows]
    positions, targets, advantages, policy_weights, explanation_weights, sampler_logprobs = [], [], [], [], [], []
    for index, row in enumerate(rows):
        count = len(row.completion_ids)
        first = index * width + len(row.prompt_ids) - 1
        positions += range(first, first + count)
        targets += row.completion_ids
        advantages += [row.advantage] * count
        policy_weights += [row.policy_weight] * count
        explanation_weights += [row.explanation_weight] * count
        sampler_logprobs += row.sampler_logprobs or [float("nan")] * count
    return MicroBatch(
        sequences=rows,
        input_ids=torch.tensor(input_ids, device=device),
        positions=torch.tensor(positions, device=device),
        targets=torch.tensor(targets, device=device),
        advantages=torch.tensor(advantages, dtype=torch.float32, device=device),
        policy_weights=torch.tensor(policy_weights, dtype=torch.float32, device=device),
        explanation_weights=torch.tensor(explanation_weights, dtype=torch.float32, device=device),
        sampler_logprobs=torch.tensor(sampler_logprobs, dtype=torch.float32, device=device),
    )
