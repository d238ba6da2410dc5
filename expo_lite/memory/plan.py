"""Peak memory of a run in closed form, before anything is loaded; imports no torch.

Generation and training take turns, and the KV cache is freed in between: what must fit is the larger
peak, not the sum. The formulas count the tensors that are alive at the peak, as allocation events of real runs
show them (docs/memory.md says how, and how near they come). GiB are binary.
"""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.memory.shapes import ModelShape

GIB = 2**30
USABLE_SHARE = 0.9  # of the budget; the rest is left to the display and the driver
CONTEXT_BYTES = int(0.6 * GIB)  # CUDA context and kernels, not measured here
FRAGMENTATION = 1.1  # reserved against allocated bytes, with expandable segments
# NF4 with double quantisation: half a byte each, an 8-bit scale per 64, a float32 scale per 16,384, a codebook.
NF4_BYTES, NF4_MATRIX_BYTES = 1 / 2 + 1 / 64 + 4 / 16384, 1092
LORA_BYTES = 4  # a float32 master weight; its gradient, while training, takes as much
ADAM_BYTES, ADAM_8BIT_BYTES = 8, 2.06  # two averages a parameter: float32, or 8 bit with a scale per 256
SMALLEST_8BIT = 4096  # parameters; bitsandbytes keeps the averages of smaller matrices in float32
CHUNK_COPIES = 2  # of one chunk's [tokens, vocabulary] in float32
SAMPLING_BYTES = 24  # per rollout and vocabulary entry: logits and log-probabilities, probabilities and their sums
DECODED_TOKEN_BYTES = 20  # per rollout and token that it may write: token, log-probability, random number
GRAPHS_BYTES = int(0.2 * GIB)  # what the driver keeps of recorded decode steps, assumed
DENSE_LIMIT_BYTES = 2**30  # dense float32 copies of the linear layers are made for small models only
PREFILL_TOKENS = 2048  # of prompts run at once: enough to keep a GPU busy, little beside the KV cache


@dataclass(frozen=True)
class Workload:
    """How a model is used: what the plan depends on besides its shape."""

    rank: int
    quantised: bool
    checkpointing: bool
    optimizer: str
    value_bytes: int  # of activations, KV cache and what is not quantised: 2, or 4 in float32
    on_gpu: bool
    repeats_kv: bool = False  # whether attention in training repeats grouped keys and values: see memory/cards
    dense: bool = False  # whether rollouts are sampled from dense float32 copies of the linear layers
    graphs: bool = False  # whether decode steps are CUDA graphs


@dataclass(frozen=True)
class Units:
    """What is alive at once: rollouts, each of prompt and new tokens, training tokens, and tokens of logits."""

    rollouts_alive: int
    prompts_alive: int  # the most different prompts that they belong to
    prompt_tokens: int
    new_tokens: int
    micro_batch_tokens: int
    logprob_chunk: int

    @property
    def sequence_tokens(self) -> int:
        """A prompt and its completion."""
        return self.prompt_tokens + self.new_tokens

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
    sampling_copies: int  # while sampling: dense linear layers, or the adapter in the model's type
    decoding: int
    gradients: int
    activations: int
    logprobs: int
    updating: int
    on_gpu: bool

    @property
    def generation_parts(self) -> dict[str, int]:
        """What is alive at the peak while rollouts or explanations are written."""
        return self._steady_and(kv_cache=self.kv_cache, sampling_copies=self.sampling_copies, decoding=self.decoding)

    @property
    def training_parts(self) -> dict[str, int]:
        """What is alive at the peak while a micro-batch is trained on: in its blocks, its logits or the update."""
        largest = max(("activations", "logprobs", "updating"), key=lambda part: getattr(self, part))
        return self._steady_and(gradients=self.gradients, **{largest: getattr(self, largest)})

    @property
    def generation_peak(self) -> int:
        """Bytes at most while generating, as the device counts them."""
        return self._reserved(sum(self.generation_parts.values()))

    @property
    def training_peak(self) -> int:
        """Bytes at most while training, as the device counts them."""
        return self._reserved(sum(self.training_parts.values()))

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.generation_peak, self.training_peak)

    def _steady_and(self, **parts: int) -> dict[str, int]:
        always = {"weights": self.weights, "adapters": self.adapters, "optimizer": self.optimizer}
        return {**always, **parts}

    def _reserved(self, allocated: int) -> int:
        return int(allocated * FRAGMENTATION) + CONTEXT_BYTES if self.on_gpu else allocated


def plan_memory(shape: ModelShape, workload: Workload, units: Units) -> MemoryPlan:
    """The plan of one model under one workload with given units."""
    lora = shape.lora_parameters(workload.rank)
    return MemoryPlan(
        weights=weight_bytes(shape, workload),
        adapters=LORA_BYTES * lora,
        optimizer=optimizer_bytes(shape, workload),
        kv_cache=units.rollouts_alive * units.sequence_tokens * kv_bytes_per_token(shape, workload),
        sampling_copies=4 * shape.linear_parameters if workload.dense else workload.value_bytes * lora,
        decoding=decoding_bytes(shape, workload, units),
        gradients=LORA_BYTES * lora,
        activations=activation_bytes(shape, workload, units.micro_batch_tokens),
        logprobs=logprob_bytes(shape, workload, units.micro_batch_tokens, units.logprob_chunk),
        updating=8 * lora if workload.optimizer == "adamw" else 0,  # torch updates all matrices at once
        on_gpu=workload.on_gpu,
    )


def weight_bytes(shape: ModelShape, workload: Workload) -> int:
    """The frozen base: quantised linear layers, and embedding, head, norms and biases in 16 or 32 bit."""
    linear = shape.linear_parameters
    matrices = shape.layers * len(shape.layer_matrices)
    stored = NF4_BYTES * linear + NF4_MATRIX_BYTES * matrices if workload.quantised else workload.value_bytes * linear
    return int(stored) + workload.value_bytes * shape.other_parameters


def optimizer_bytes(shape: ModelShape, workload: Workload) -> int:
    """AdamW's running averages for every LoRA matrix."""

    def averages(parameters: int) -> float:
        in_8_bit = workload.optimizer == "adamw_8bit" and parameters >= SMALLEST_8BIT
        return parameters * (ADAM_8BIT_BYTES if in_8_bit else ADAM_BYTES)

    widths = [width for matrix in shape.layer_matrices for width in matrix]
    return int(shape.layers * sum(averages(workload.rank * width) for width in widths))


def kv_bytes_per_token(shape: ModelShape, workload: Workload) -> int:
    """Key and value of one token in every layer."""
    return 2 * workload.value_bytes * shape.layers * shape.kv_width


def decoding_bytes(shape: ModelShape, workload: Workload, units: Units) -> int:
    """Peak of generation above steady and the KV cache: while tokens are chosen, or while prompts are run before that.

    Prompts are run in groups, where others follow rollouts that have ended beside the whole cache.
    """
    rollouts, prompts, length = units.rollouts_alive, units.prompts_alive, units.prompt_tokens
    kv = kv_bytes_per_token(shape, workload)

    def run(group: int) -> int:
        tokens = group * length
        cached = kv + kv // shape.layers
        return forward_bytes(shape, workload, tokens) + tokens * (cached + index_bytes(shape))

    first = min(prompts, max(1, PREFILL_TOKENS // length))
    room = rollouts * units.sequence_tokens * kv
    logits = 4 * rollouts * shape.vocabulary
    one_token = max(rollouts * SAMPLING_BYTES * shape.vocabulary, logits + forward_bytes(shape, workload, rollouts))
    # Rows are copied from their prompts, and kept where others have ended, half a layer at a time.
    moving = logits + (first * length * kv + room // 2) // shape.layers
    mask = rollouts * units.sequence_tokens * (workload.value_bytes + 1)  # and what it is made from
    decoded = rollouts * units.new_tokens * DECODED_TOKEN_BYTES + mask
    # Graphs have a pool of memory of their own, for a decode step but its head.
    graphs = forward_bytes(shape, workload, rollouts) + mask + GRAPHS_BYTES if workload.graphs else 0
    return decoded + graphs + max(one_token, moving, logits + run(first))


def forward_bytes(shape: ModelShape, workload: Workload, tokens: int) -> int:
    """Peak of one block without gradient: in its MLP, its rotation or its output, or while a weight is written out."""
    h, q, kv, m, value = shape.hidden, shape.query_width, shape.kv_width, shape.mlp, workload.value_bytes
    around = value * (4 * h + 2 * shape.head_dim)  # embeddings, the block's input, its sum and norm; the rotation
    mlp = around + 3 * value * m
    rotation = value * (3 * h + max(4 * q + 2 * kv, q + 5 * kv))
    output = value * (2 * q + 6 * h)
    block = tokens * max(mlp, rotation, output)
    return block if workload.dense else max(block, tokens * (mlp - value * m) + dequantised_bytes(shape, workload))


def dequantised_bytes(shape: ModelShape, workload: Workload) -> int:
    """The largest 4-bit weight, written out for one multiplication, with its scales (float32, two of them per 64)."""
    return (workload.value_bytes * 8 + 1) * shape.hidden * shape.mlp // 8 if workload.quantised else 0


def saved_bytes_per_token(shape: ModelShape, workload: Workload) -> int:
    """What one block keeps of a token for its backward pass, beside its input.

    In float32: both normed inputs and the sum between; queries and attention's output; keys and values; gate, its
    activation, up and their product. In 16 bit the norms and peft's float32 LoRA keep float32 copies besides.
    """
    h, q, kv, m = shape.hidden, shape.query_width, shape.kv_width, shape.mlp
    wide = workload.value_bytes == 4
    saved = 12 * h + 8 * q + 8 * kv + 16 * m if wide else 28 * h + 8 * q + 4 * kv + 10 * m
    saved += 2 * workload.value_bytes * (q - kv) if workload.repeats_kv else 0
    per_norm = 4 * (q + kv) if shape.qk_norm else 0
    lora_and_statistics = 4 * (7 * workload.rank + 2 * shape.heads + 2)
    return saved + per_norm + lora_and_statistics


def activation_bytes(shape: ModelShape, workload: Workload, tokens: int) -> int:
    """Peak of the backward pass above steady, which is in the MLP of the last block, or of the first one.

    Inputs of all blocks, what one block keeps (without checkpointing: all blocks), and what passes through.
    From the last block to the first, inputs are freed and the micro-batch's gradients gathered.
    """
    h, m, value, layers = shape.hidden, shape.mlp, workload.value_bytes, shape.layers
    blocks = 1 if workload.checkpointing else layers
    inputs = max(layers * h * value * tokens, h * value * tokens + 4 * shape.lora_parameters(workload.rank))
    kept = blocks * saved_bytes_per_token(shape, workload) * tokens
    if value == 4:
        passing = tokens * 4 * h + max(tokens * 8 * m, tokens * 12 * h + dequantised_bytes(shape, workload))
    else:
        in_mlp = tokens * (4 if workload.quantised else 8) * m
        passing = tokens * 12 * h + max(in_mlp, tokens * 2 * h + dequantised_bytes(shape, workload))
    return inputs + kept + passing + tokens * index_bytes(shape)


def logprob_bytes(shape: ModelShape, workload: Workload, tokens: int, chunk: int) -> int:
    """Peak of the log-probabilities above steady: what the blocks keep, hidden states, their gradient, and logits."""
    h, value = shape.hidden, workload.value_bytes
    kept = shape.layers * h * value
    if not workload.checkpointing:
        kept += shape.layers * saved_bytes_per_token(shape, workload)
    final = 3 * h * value + (4 * h if value == 2 else 0)  # normed, at completion tokens, gradient; the norm's copy
    logits = CHUNK_COPIES * 4 * min(chunk, tokens) * shape.vocabulary
    return tokens * (kept + final + index_bytes(shape)) + logits


def index_bytes(shape: ModelShape) -> int:
    """Of one token: rotary embedding, ids, targets, weights."""
    return 8 * shape.head_dim + 64
