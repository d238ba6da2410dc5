"""How likely given completions are to the model: log-probabilities of their tokens, in micro-batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expo_lite.core.records import TrainingSequence
from expo_lite.memory.live import LiveUnits
from expo_lite.model.policy import Policy
from expo_lite.training.micro_batches import MicroBatch, in_micro_batches


@torch.no_grad()
def sequence_logprobs(sequences: Sequence[TrainingSequence], policy: Policy, units: LiveUnits) -> list[Tensor]:
    """log pi(token | prompt, tokens before) of each sequence's completion tokens (T,), in nats at temperature 1.

    In the order of `sequences`. Raises MemoryBudgetError where a single one does not fit.
    """

    def score(batch: MicroBatch) -> list[tuple[TrainingSequence, Tensor]]:
        temperature = torch.ones_like(batch.advantages)
        chunk = units.logprob_chunk
        logprobs, _ = policy.completion_logprobs(batch.inputs, batch.positions, batch.targets, temperature, chunk)
        lengths = [len(row.completion_ids) for row in batch.sequences]
        return list(zip(batch.sequences, logprobs.split(lengths), strict=True))

    batches = in_micro_batches(sequences, policy, units, score)
    by_row = {id(row): logprobs for batch in batches for row, logprobs in batch}  # micro-batches go by length
    return [by_row[id(sequence)] for sequence in sequences]
