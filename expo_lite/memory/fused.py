"""Which products with a 4-bit weight bitsandbytes computes from the packed weight, and which from a 16-bit copy.

The rule is that of bitsandbytes 0.50, `_gemm_4bit_use_custom_cuda` in bitsandbytes/backends/cuda/ops.py: by the kind of
card, the weight's shape and the number of rows. tests/memory/test_fused.py holds this against the installed one. Small
weights have a rule here that is simpler than theirs: few of a model's parameters are in such.
"""

from __future__ import annotations

from expo_lite.memory.cards import Card

ALWAYS = 4  # rows; up to here the fused kernel is taken on every card
FEW = 7  # rows; up to here for every large weight, but for two data centre cards and some shapes with 6 or 7
SMALL_WEIGHT = 4 * 2**20  # parameters
SMALL_WEIGHT_ROWS = 32
COLUMNS = 64  # of the output that one block of threads computes


def most_rows(card: Card, outputs: int, inputs: int) -> int:
    """The most rows of an input (rows, inputs) that the fused kernel multiplies with a weight (outputs, inputs)."""
    if outputs * inputs < SMALL_WEIGHT:
        return SMALL_WEIGHT_ROWS
    blocks = -(-outputs // COLUMNS)
    rule = _RULES.get(card.capability, _ada)
    return rule(blocks, card.multiprocessors, outputs, inputs)


def _turing(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    if blocks >= 3 * sms:
        return 128 if inputs < outputs else 64
    return 64 if blocks >= sms // 2 else 32


def _a100(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    if blocks >= 3 * sms:
        return 128
    if blocks >= sms:
        return 64 if inputs < outputs else 32
    tall = inputs >= 3 * outputs and 4 * blocks > sms
    square = inputs == outputs and blocks >= 48 and 5 * blocks < 3 * sms
    deep = inputs > outputs and 2 * blocks < sms <= 3 * blocks
    if tall or square or deep:
        return FEW
    shallow = inputs <= outputs if 2 * blocks < sms else inputs < outputs
    return 128 if shallow else 16


def _ampere(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    return 128 if blocks >= sms else 64 if blocks >= sms // 2 else 16


def _ada(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    tall = inputs > 2 * outputs
    if blocks >= 2 * sms:
        return 256 if blocks >= 3 * sms else 128
    if 5 * blocks >= 4 * sms:
        if tall or blocks >= 200:
            return 128
        return (128 if sms >= 60 else 32) if inputs >= outputs else 64
    if blocks >= sms // 2:
        return 64 if tall else 8 if blocks >= 64 else 32
    if inputs > outputs and blocks <= 48:
        return 12 if inputs >= 3 * outputs else 10
    return 16 if tall or blocks < 48 else 8


def _hopper(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    for waves, rows in ((3, 64), (2, 48), (1, 32)):
        if blocks >= waves * sms:
            return rows
    narrow = inputs >= outputs and 4 * blocks < 3 * sms
    return FEW if blocks < sms // 2 or narrow else 16


def _b200(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    if blocks >= 3 * sms:
        return 32
    return 8 if blocks >= sms and inputs < outputs else ALWAYS


def _blackwell(blocks: int, sms: int, outputs: int, inputs: int) -> int:
    if blocks >= 2 * sms:
        return 256 if blocks >= 3 * sms else 128
    if 5 * blocks >= 4 * sms:
        return 96 if inputs >= outputs else 64
    if blocks >= sms // 2:
        return 64 if 2 * inputs >= outputs and blocks >= 128 else 8
    return 16 if inputs > 2 * outputs and blocks > 64 else 8


_RULES = {
    (7, 5): _turing,
    (8, 0): _a100,
    (8, 6): _ampere,
    (9, 0): _hopper,
    (10, 0): _b200,
    (12, 0): _blackwell,
}
