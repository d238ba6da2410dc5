"""Peak memory of a run in closed form, before anything is loaded.

The formulas were checked against the real step on meta tensors and are never below it (docs/memory.md).
Generation and training take turns, so what must fit is the larger peak, not the sum. GiB are binary.
"""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.memory.shapes import ModelShape

GIB = 2**30
USABLE_SHARE = 0.9  # of the budget; the rest is the driver's and the display's
CONTEXT_BYTES = int(0.6 * GIB)  # CUDA context and kernels
FRAGMENTATION = 1.1  # reserved against allocated bytes, with expandable segments
NF4_ABSMAX_BLOCK, NF4_DOUBLE_BLOCK, NF4_CODEBOOK_BYTES = 64, 256, 1092
ADAPTER_BYTES, GRADIENT_BYTES, OPTIMIZER_BYTES = 4, 4, {"adamw": 8.0, "adamw_8bit": 2.06}
# Backward pass per token: checkpoints, then attention and MLP of one block with peft's LoRA.
ATTENTION_BYTES, MLP_BYTES, LOGPROB_BYTES = 27, 13.5, 10
LOGITS_COPIES = 2  # of one chunk, float32


@dataclass(frozen=True)
class Workload:
    """What is alive at once."""

    rank: int
    optimizer: str
    quantised: bool
    rollouts_alive: int
    sequence_tokens: int  # longest prompt and completion together
    micro_batch_tokens: int
    logprob_chunk: int
    checkpointing: bool


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by purpose."""

    weights: int
    adapters: int
    optimizer: int
    kv_cache: int
    generation_logits: int
    activations: int
    logprobs: int

    @property
    def steady(self) -> int:
        """What is always there: weights, adapters with their gradients, optimizer."""
        return self.weights + self.adapters + self.optimizer

    @property
    def generation_peak(self) -> int:
        """Peak while rollouts or explanations are written, as the card sees it."""
        return reserved(self.steady + self.kv_cache + self.generation_logits)

    @property
    def training_peak(self) -> int:
        """Peak while a micro-batch is trained on, as the card sees it."""
        return reserved(self.steady + max(self.activations, self.logprobs))

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.generation_peak, self.training_peak)


def reserved(allocated: float) -> int:
    """What the card shows for `allocated` bytes: fragmentation and the CUDA context on top."""
    return int(allocated * FRAGMENTATION) + CONTEXT_BYTES
