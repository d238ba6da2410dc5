"""How fast a card decodes and trains, from its data sheet: seconds per token. Imports no torch.

One more token of all rollouts takes the longer of two: the card reads all weights and the KV cache, and meanwhile the
host launches every layer's operators one by one. Which share of its peaks a card reaches, and how long a launch takes,
is assumed here from others' measurements (tests/memory/test_forecast_anchors.py holds the result against public ones).
The dry pass of a real run (expo_lite.training.dry_pass) measures both paces instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from expo_lite.memory.cards import Card
from expo_lite.memory.fused import most_rows
from expo_lite.memory.plan import Workload, kv_bytes_per_token
from expo_lite.memory.shapes import ModelShape

BANDWIDTH_SHARE, ARITHMETIC_SHARE = 0.7, 0.35  # of a card's peak, assumed
OPERATORS_PER_LAYER = 54  # of one decoded token with light LoRA in 16 bit, counted (tests/memory/test_pace.py)
OPERATORS_PER_NORM_OF_HEADS = 8  # two of them a layer where queries and keys are normed
OPERATORS_BESIDE = 100  # per token: mask and rotation, the last norm, the head, choosing a token
LAUNCH_SECONDS = 20e-6  # per operator in Python, assumed: 52 ms a token with PEFT's 89 at 7B, where others saw 45 to 60
PACKED_BYTES = 0.516  # of a 4-bit parameter with its scales (expo_lite.memory.plan)
COPIED_BYTES = 4.0  # more where it is written out in 16 bit first, and read again
SAMPLING_BYTES = 70  # moved per rollout and vocabulary entry: from logits to probabilities and their sums in float64
FORWARD, BACKWARD = 2, 2  # operations per parameter and token; frozen weights have no gradient of their own


@dataclass(frozen=True)
class Pace:
    """How fast a machine is: seconds for one more token of so many rollouts with so long a cache; per trained token."""

    decoded_token: Callable[[float, float], float]
    trained_token: float

    @classmethod
    def measured(cls, decoded_token: Mapping[int, float], trained_token: float) -> Pace:
        """From the seconds of one more token of one or two numbers of rollouts: a line through them.

        Fewer are not faster where the host's launches take the time, and much faster on a CPU.
        """
        (few, short), (many, long) = min(decoded_token.items()), max(decoded_token.items())
        a_rollout = max(0.0, (long - short) / (many - few)) if many > few else 0.0
        return cls(lambda rollouts, cached: max(0.0, long - a_rollout * (many - rollouts)), trained_token)


def pace_of(card: Card, shape: ModelShape, workload: Workload) -> Pace:
    """The pace to expect on a card."""

    def decoded_token(rollouts: float, cached: float) -> float:
        return max(decoding_seconds(card, shape, workload, rollouts, cached), card.host * launching_seconds(shape))

    return Pace(decoded_token, training_seconds(card, shape, workload))


def launching_seconds(shape: ModelShape) -> float:
    """A desktop's time to launch the operators of one more token, however many rollouts it is for."""
    per_layer = OPERATORS_PER_LAYER + (2 * OPERATORS_PER_NORM_OF_HEADS if shape.qk_norm else 0)
    return (shape.layers * per_layer + OPERATORS_BESIDE) * LAUNCH_SECONDS


def decoding_seconds(card: Card, shape: ModelShape, workload: Workload, rollouts: float, cached: float) -> float:
    """The card's time for one more token of `rollouts` with `cached` tokens each: what is read and written."""
    weights = shape.layers * sum(
        outputs * inputs * weight_bytes_moved(card, workload, rollouts, outputs, inputs)
        for inputs, outputs in shape.layer_matrices
    )
    head = workload.value_bytes * shape.hidden * shape.vocabulary
    adapters = workload.value_bytes * shape.lora_parameters(workload.rank)
    cache = rollouts * cached * kv_bytes_per_token(shape, workload)
    sampling = rollouts * shape.vocabulary * SAMPLING_BYTES
    return (weights + head + adapters + cache + sampling) / (BANDWIDTH_SHARE * card.bandwidth * 1e9)


def weight_bytes_moved(card: Card, workload: Workload, rows: float, outputs: int, inputs: int) -> float:
    """Bytes a parameter that one product with a weight (outputs, inputs) moves."""
    if not workload.quantised:
        return workload.value_bytes
    return PACKED_BYTES + (0 if ceil(rows) <= most_rows(card, outputs, inputs) else COPIED_BYTES)


def training_seconds(card: Card, shape: ModelShape, workload: Workload) -> float:
    """Per token trained on: forward and backward pass of the blocks, once more forward with checkpointing, and logits.

    Logits are always computed twice (they are never all there), their backward pass comes besides.
    """
    blocks = FORWARD + BACKWARD + (FORWARD if workload.checkpointing else 0)
    head = 2 * FORWARD + BACKWARD
    operations = blocks * shape.linear_parameters + head * shape.hidden * shape.vocabulary
    return operations / (ARITHMETIC_SHARE * card.teraflops * 1e12)
