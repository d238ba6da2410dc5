"""The rule for fused 4-bit products against the one of the installed bitsandbytes, for every card and known model."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from expo_lite.config.model_files import SMOL
from expo_lite.memory.cards import CARDS, Card
from expo_lite.memory.fused import ALWAYS, FEW, SMALL_WEIGHT, most_rows
from expo_lite.memory.shapes import KNOWN

LARGE = [shape for shape in KNOWN.values() if shape.name != SMOL]  # of 135M parameters all weights are small
ROWS = [*range(1, 131), 191, 192, 193, 255, 256, 257, 320, 512, 513]
Choice = Callable[[int, int, int], bool]


@pytest.fixture(params=CARDS)
def theirs(request: pytest.FixtureRequest) -> tuple[Card, Choice]:
    """Bitsandbytes' own choice on a card: (rows, outputs, inputs) -> whether its fused kernel is taken.

    The module cannot be imported with a torch for the CPU, so the function is taken out of its text.
    """
    card = CARDS[request.param]
    found = importlib.util.find_spec("bitsandbytes")
    assert found and found.origin
    tree = ast.parse((Path(found.origin).parent / "backends/cuda/ops.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    function = functions["_gemm_4bit_use_custom_cuda"]
    function.decorator_list = []
    names: dict[str, Any] = {
        "torch": torch,
        "_GEMM_4BIT_CUSTOM_FLOOR_M": ALWAYS,
        "_gpu_dispatch_props": lambda index: (card.multiprocessors, *card.capability),
    }
    exec(compile(ast.Module([function], []), "bitsandbytes", "exec"), names)
    dtype = torch.float16 if card.capability < (8, 0) else torch.bfloat16

    def choice(rows: int, outputs: int, inputs: int) -> bool:
        return names["_gemm_4bit_use_custom_cuda"](0, dtype, rows, outputs, inputs)

    return card, choice


def test_the_floor_is_theirs() -> None:
    found = importlib.util.find_spec("bitsandbytes")
    assert found and found.origin
    text = (Path(found.origin).parent / "backends/cuda/ops.py").read_text(encoding="utf-8")
    assert f"_GEMM_4BIT_CUSTOM_FLOOR_M = {ALWAYS}\n" in text


MATRICES = {(outputs, inputs) for shape in KNOWN.values() for inputs, outputs in shape.layer_matrices}


def test_large_weights_are_chosen_as_bitsandbytes_does(theirs: tuple[Card, Choice]) -> None:
    card, choice = theirs
    strange = [
        (rows, outputs, inputs)
        for outputs, inputs in MATRICES
        if outputs * inputs >= SMALL_WEIGHT
        for rows in ROWS
        if choice(rows, outputs, inputs) != (rows <= most_rows(card, outputs, inputs))
    ]
    hbm = card.capability in ((8, 0), (9, 0))
    assert [case for case in strange if not (hbm and case[0] in (FEW - 1, FEW))] == []


def test_small_weights_hardly_matter(theirs: tuple[Card, Choice]) -> None:
    """Of a model's 4-bit parameters, few are in small weights chosen otherwise, in the mean over 1 to 128 rows."""
    card, choice = theirs
    rows = range(1, 129)
    for shape in LARGE:
        small = [(outputs, inputs) for inputs, outputs in shape.layer_matrices if outputs * inputs < SMALL_WEIGHT]
        wrong = sum(
            outputs * inputs
            for outputs, inputs in small
            for count in rows
            if choice(count, outputs, inputs) != (count <= most_rows(card, outputs, inputs))
        )
        most = 0.085 if card.capability == (8, 0) else 0.035  # an A100 fuses small ones for far more rows
        assert shape.layers * wrong / len(rows) < most * shape.linear_parameters, shape.name
