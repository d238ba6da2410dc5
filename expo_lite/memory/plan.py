"""Peak memory of a run in closed form, before anything is loaded; imports no torch.

Generation and training take turns, and the KV cache is freed in between: what must fit is the larger
peak, not the sum. Coefficients are from allocation ledgers of the real modules on meta tensors; against
those the formulas were 1.00 to 1.04 times the ledger, never below. GiB are binary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expo_lite.memory.shapes import ModelShape

GIB = 2**30
USABLE_SHARE = 0.9  # of the budget; the rest is left to the display and the driver
CONTEXT_BYTES = int(0.6 * GIB)  # CUDA context and kernels, not measured here
FRAGMENTATION = 1.1  # reserved against allocated bytes, with expandable segments
# NF4 with double quantisation: half a byte each, an 8-bit scale per 64, a float32 scale per 16,384, a codebook.
NF4_BYTES, NF4_MATRIX_BYTES = 1 / 2 + 1 / 64 + 4 / 16384, 1092
LORA_BYTES = 4 + 4  # float32 master weight and gradient
OPTIMIZER_BYTES = {"adamw": 8.0, "adamw_8bit": 2.06}
# One block's activations in the backward pass, 16 bit, with peft's LoRA: per token and unit of width.
ATTENTION_BYTES, MLP_BYTES, FINAL_NORM_BYTES = 27, 13.5, 10
CHUNK_COPIES = 2  # of one chunk's [tokens, vocabulary] in float32
SAMPLING_BYTES = 32  # per rollout and vocabulary entry: three float32 and two float64 values


@dataclass(frozen=True)
class Workload:
    """How a model is used: what the plan depends on besides its shape."""

    rank: int
    quantised: bool
    checkpointing: bool
    optimizer: str
    value_bytes: int  # of activations, KV cache and what is not quantised: 2, or 4 in float32
    on_gpu: bool

    @property
    def scale(self) -> float:
        """The coefficients above are for 16-bit values."""
        return self.value_bytes / 2


@dataclass(frozen=True)
class Units:
    """What is alive at once: rollouts (each `sequence_tokens` long), training tokens, tokens of logits."""

    rollouts_alive: int
    sequence_tokens: int
    micro_batch_tokens: int
    logprob_chunk: int

    def __str__(self) -> str:
        return (
            f"{self.rollouts_alive} rollouts of {self.sequence_tokens} tokens alive, {self.micro_batch_tokens} tokens "
            f"per micro-batch, logits of {self.logprob_chunk} tokens at once"
        )


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by purpose, and the two peaks that follow."""

    weights: int
    adapters: int
    optimizer: int
    kv_cache: int
    sampling: int
    activations: int
    logprobs: int
    on_gpu: bool

    @property
    def steady(self) -> int:
        """What is always there."""
        return self.weights + self.adapters + self.optimizer

    @property
    def generation_peak(self) -> int:
        """While rollouts or explanations are written."""
        return self._reserved(self.steady + self.kv_cache + self.sampling)

    @property
    def training_peak(self) -> int:
        """While a micro-batch is trained on."""
        return self._reserved(self.steady + max(self.activations, self.logprobs))

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.generation_peak, self.training_peak)

    def _reserved(self, allocated: int) -> int:
        return int(allocated * FRAGMENTATION) + CONTEXT_BYTES if self.on_gpu else allocated


def plan_memory(shape: ModelShape, workload: Workload, units: Units) -> MemoryPlan:
    """The plan of one model under one workload with given units."""
    lora = shape.lora_parameters(workload.rank)
    return MemoryPlan(
        weights=weight_bytes(shape, workload),
        adapters=LORA_BYTES * lora,
        optimizer=int(OPTIMIZER_BYTES[workload.optimizer] * lora),
        kv_cache=units.rollouts_alive * units.sequence_tokens * kv_bytes_per_token(shape, workload),
        sampling=units.rollouts_alive * SAMPLING_BYTES * shape.vocabulary,
        activations=activation_bytes(shape, workload, units.micro_batch_tokens),
        logprobs=logprob_bytes(shape, workload, units.micro_batch_tokens, units.logprob_chunk),
        on_gpu=workload.on_gpu,
    )


def weight_bytes(shape: ModelShape, workload: Workload) -> int:
    """The frozen base: quantised linear layers, and embedding, head, norms and biases in 16 or 32 bit."""
    linear = shape.linear_parameters
    matrices = shape.layers * len(shape.layer_matrices)
    stored = NF4_BYTES * linear + NF4_MATRIX_BYTES * matrices if workload.quantised else workload.value_bytes * linear
    return int(stored) + workload.value_bytes * shape.other_parameters


def kv_bytes_per_token(shape: ModelShape, workload: Workload) -> int:
    """Key and value of one token in every layer."""
    return 2 * workload.value_bytes * shape.layers * shape.kv_width


def activation_bytes(shape: ModelShape, workload: Workload, tokens: int) -> int:
    """Peak of the backward pass above steady: checkpoints, one block in full, and one dequantised weight."""
    block = ATTENTION_BYTES * (shape.hidden + shape.query_width) + MLP_BYTES * shape.mlp
    blocks = 1 if workload.checkpointing else shape.layers
    per_token = 2 * shape.layers * shape.hidden + blocks * block
    return int(workload.scale * (tokens * per_token + 2 * shape.hidden * shape.mlp))


def logprob_bytes(shape: ModelShape, workload: Workload, tokens: int, chunk: int) -> int:
    """Peak of the log-probabilities above steady: checkpoints, final norm, and chunks of logits in float32."""
    kept = tokens * shape.hidden * (2 * shape.layers + FINAL_NORM_BYTES)
    return int(workload.scale * kept) + CHUNK_COPIES * 4 * min(chunk, tokens) * shape.vocabulary


def largest(fits: Callable[[int], bool], high: int) -> int:
    """The largest whole number in [1, high] for which `fits` holds, 0 if none does; `fits` must be monotone."""
    low = 1
    while low <= high:
        middle = (low + high) // 2
        if fits(middle):
            low = middle + 1
        else:
            high = middle - 1
    return high
