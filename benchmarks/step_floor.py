"""The least that a step can take on this machine, counted, and a picture of steps beside it: `benchmarks/step.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.step_case import Case, Measured
from expo_lite.config.settings import ExplanationConfig
from expo_lite.memory.shapes import ModelShape
from expo_lite.runs.plot_style import Series, curves, picture

SIDE = 1536  # of the matrices that are multiplied
MOVED = 2**29  # bytes, unless the weights are fewer: those of a small model stay in the processor's cache
COLOURS = {"trl": "#b4532a", "grpo": "#2a6fb4", "expo": "#3a8f4d", "floor": "#777777"}
NAMES = {"trl": "TRL GRPO", "grpo": "GRPO", "expo": "ExPO", "floor": "floor"}


@dataclass(frozen=True)
class Machine:
    """Operations a second in a product of large matrices, and bytes a second in a copy, or in a sum if that is faster.

    A copy's bytes are those that it reads and those that it writes.
    """

    operations: float
    bytes: float


def fastest(work: Callable[[], object], times: int = 7) -> float:
    """Seconds of the fastest of so many runs."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measured_machine(weight_bytes: int, dtype: torch.dtype) -> Machine:
    """The rates of this machine with torch's present number of threads, for weights of this size."""
    left, right = torch.randn(2, SIDE, SIDE).to(dtype)
    source = torch.ones(min(weight_bytes, MOVED) // 4)
    target = torch.empty_like(source)
    operations = 2 * SIDE**3 / fastest(lambda: left @ right)
    copied, read = fastest(lambda: target.copy_(source)), fastest(source.sum)
    return Machine(operations, source.nbytes * max(2 / copied, 1 / read))


def weight_bytes(shape: ModelShape, value_bytes: int) -> int:
    """Bytes that a decoded token reads: linear layers and head."""
    return value_bytes * (shape.linear_parameters + shape.hidden * shape.vocabulary)


def floor_seconds(case: Case, shape: ModelShape, prompt: int, machine: Machine) -> float:
    """Seconds that a step of this project's takes at least; `prompt` tokens a prompt.

    Counted are the products of linear layers, head and LoRA, and the reading of the weights, once for each token of
    all rollouts together; each different prompt once. Attention, norms, sampling and verifying come on top.
    """
    samples = ExplanationConfig().samples if case.side == "expo" else 0
    linear, head = shape.linear_parameters, shape.hidden * shape.vocabulary
    lora = shape.lora_parameters(16)
    reading = weight_bytes(shape, 2 if case.dtype == "bfloat16" else 4) / machine.bytes

    def generating(prompts: int, rows: int) -> float:
        prefill = 2 * linear * prompts * prompt / machine.operations
        return prefill + case.tokens * max(2 * (linear + head) * rows / machine.operations, reading) if rows else 0.0

    def training(prompts: int, rows: int) -> float:
        """Forward, and backward to the inputs alone: only LoRA's matrices have gradients."""
        tokens = prompts * prompt + rows * case.tokens
        return (tokens * (4 * linear + 6 * lora) + 4 * head * rows * case.tokens) / machine.operations

    explained = case.failed if samples else 0
    mixed = case.prompts - case.failed
    seconds = generating(case.prompts, case.rollouts) + generating(explained, explained * samples)
    return seconds + training(mixed + explained, mixed * case.group + explained)


Point = tuple[float, float]
Panel = tuple[str, dict[str, list[Point]]]
"""What is along the x axis, and by side (x, seconds)."""


def draw(path: Path, panels: list[Panel]) -> None:
    """Seconds a step, panel by panel."""
    with picture(path, len(panels)) as axes:
        for of_panel, (name, by_side) in zip(axes, panels, strict=True):
            series = [
                Series(
                    NAMES[side],
                    COLOURS[side],
                    [(x, seconds, None, None) for x, seconds in points],
                    dash="--" if side == "floor" else "-",
                )
                for side, points in by_side.items()
            ]
            of_panel.set(title="Seconds per step", xlabel=name)
            curves(of_panel, series, " s", 2)
            of_panel.set_ylim(bottom=0)


def prompt_tokens(case: Case, measured: Measured) -> int:
    """Tokens of a prompt, in the mean."""
    return round(measured.prompt_tokens / case.rollouts)
