"""Training sequences -> micro-batches under a token budget: right-padded rows, or the tree of what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from expo_lite.core.records import TrainingSequence
from expo_lite.memory.halving import in_halves
from expo_lite.memory.live import LiveUnits
from expo_lite.model.policy import Policy
from expo_lite.model.prefix_tree import PrefixTree, laid_out

Result = TypeVar("Result")


@dataclass(frozen=True)
class MicroBatch:
    """B sequences and, laid end to end, their N completion tokens.

    `positions` (N,) index the flattened inputs at the token BEFORE each completion token, where the
    model predicts it. Masks come from lengths, never from pad ids: the end token is trained like any other.
    """

    sequences: Sequence[TrainingSequence]
    inputs: Tensor | PrefixTree  # (B, T), or where they begin alike a tree of M tokens
    positions: Tensor  # (N,)
    targets: Tensor  # (N,)
    advantages: Tensor  # (N,)
    policy_weights: Tensor  # (N,)
    likelihood_weights: Tensor  # (N,)
    in_answer: Tensor  # (N,) whether a token belongs to an explanation's final answer
    # what some or all sequences lack; None where all do, nan where some do
    sampler_logprobs: Tensor | None  # (N,)
    old_logprobs: Tensor | None  # (N,)
    reference_logprobs: Tensor | None  # (N,)

    @property
    def is_policy(self) -> Tensor:
        """(N,) whether a token belongs to a rollout, whose logits are divided by the temperature."""
        return self.policy_weights > 0


def cut_micro_batches(
    sequences: Sequence[TrainingSequence], token_budget: Callable[[], int], trees: bool = False
) -> Iterator[list[TrainingSequence]]:
    """Rows sorted by length and cut so that their number times the longest stays within the budget of the moment.

    For trees those of one prompt stand together. A sequence longer than the budget gets a micro-batch of its own.
    """
    rows: list[TrainingSequence] = []
    longest = 0
    for sequence in by_prompt(sequences) if trees else sorted(sequences, key=lambda s: s.length):
        longest = max(longest, sequence.length)
        if rows and (len(rows) + 1) * longest > token_budget():
            yield rows
            rows, longest = [], sequence.length
        rows.append(sequence)
    if rows:
        yield rows


def by_prompt(sequences: Sequence[TrainingSequence]) -> list[TrainingSequence]:
    """Those of one prompt together, by length, and prompts by their longest sequence."""
    groups: dict[tuple[int, ...], list[TrainingSequence]] = {}
    for sequence in sorted(sequences, key=lambda s: s.length):
        groups.setdefault(tuple(sequence.prompt_ids), []).append(sequence)
    return [one for group in sorted(groups.values(), key=lambda g: g[-1].length) for one in group]


def in_micro_batches(
    sequences: Sequence[TrainingSequence],
    policy: Policy,
    units: LiveUnits,
    work: Callable[[MicroBatch], Result],
) -> Iterator[Result]:
    """Do `work` on micro-batches under the token budget, on smaller ones where memory runs out.

    Raises MemoryBudgetError where a single sequence does not fit.
    """

    trees = policy.takes_trees

    def on_rows(rows: Sequence[TrainingSequence]) -> Result:
        return work(collate(rows, policy.pad_id, policy.device, trees))

    for rows in cut_micro_batches(sequences, lambda: units.micro_batch_tokens, trees):
        yield from in_halves(rows, on_rows, units.halve_micro_batch, "memory.micro_batch_tokens")


def collate(rows: Sequence[TrainingSequence], pad_id: int, device: torch.device, trees: bool = False) -> MicroBatch:
    """One micro-batch of `rows`, padded to the longest of them; as a tree where the model takes it and it pays."""
    counts = [len(row.completion_ids) for row in rows]
    # the last token of a sequence predicts nothing
    inputs, before = laid_out([row.prompt_ids + row.completion_ids for row in rows], pad_id, device, trees, unread=1)

    def whole(values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, device=device)

    def each_token(values: Sequence[float]) -> Tensor:
        repeated = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
        return torch.tensor(repeated, dtype=torch.float32, device=device)

    def tokenwise(values: Sequence[Sequence[float] | None]) -> Tensor | None:
        if all(own is None for own in values):
            return None
        filled = [own or [float("nan")] * count for own, count in zip(values, counts, strict=True)]
        return torch.tensor([value for own in filled for value in own], dtype=torch.float32, device=device)

    return MicroBatch(
        sequences=rows,
        inputs=inputs,
        positions=whole(
            [place for own, count in zip(before, counts, strict=True) for place in own[len(own) - count :]]
        ),
        targets=whole([token for row in rows for token in row.completion_ids]),
        advantages=each_token([row.advantage for row in rows]),
        policy_weights=each_token([row.policy_weight for row in rows]),
        likelihood_weights=each_token([row.likelihood_weight for row in rows]),
        in_answer=whole([held for row in rows for held in _in_answer(row)]),
        sampler_logprobs=tokenwise([row.sampler_logprobs for row in rows]),
        old_logprobs=tokenwise([row.old_logprobs for row in rows]),
        reference_logprobs=tokenwise([row.reference_logprobs for row in rows]),
    )


def _in_answer(row: TrainingSequence) -> list[bool]:
    start, end = row.answer_span or (0, 0)
    return [start <= t < end for t in range(len(row.completion_ids))]


def per_sequence(rows: Sequence[TrainingSequence], values: Sequence[float]) -> list[list[float]]:
    """Values of N completion tokens laid end to end, cut by sequence."""
    remaining = iter(values)
    return [list(islice(remaining, len(row.completion_ids))) for row in rows]
