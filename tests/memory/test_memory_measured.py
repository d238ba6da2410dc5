"""The plan against every event of torch's allocator in real runs on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.memory import ARCHITECTURES, SHAPES, measure, step_peak
from expo_lite.memory.measure import peak_on_cpu


def test_the_peak_of_known_work() -> None:
    def work() -> torch.Tensor:
        first = torch.ones(1000, 250)  # 1 MB
        second = first * 2  # 2 MB
        del first
        return second[:500].clone()  # 1.5 MB

    assert peak_on_cpu(work) == pytest.approx(2_000_000, abs=100)  # a few bytes for the 2


def holds(preset: str, architecture: str, dtype: str, above: float, below: float = 0.0, **sizes: Any) -> None:
    """The plan of both peaks is within a share of what was measured."""
    peaks = measure(preset, architecture, dtype, **sizes)
    for planned, measured in (
        (peaks.planned_generation, peaks.generation),
        (peaks.planned_training, peaks.training),
    ):
        assert (1 - below) * measured <= planned <= (1 + above) * measured


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_never_below_and_hardly_above(architecture: str) -> None:
    holds("24gb", architecture, "float32", above=0.15)


@pytest.mark.parametrize(("rollouts", "per_prompt"), [(1, 1), (16, 8), (40, 4)])
def test_waves_of_other_sizes(rollouts: int, per_prompt: int) -> None:
    holds("8gb", "qwen2", "float32", above=0.15, rollouts=rollouts, per_prompt=per_prompt)


def test_without_quantisation() -> None:
    for preset in ("8gb", "tiny"):  # the latter samples from dense weights
        holds(preset, "llama", "float32", above=0.15, flags=("--policy.quantization", "none"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", SHAPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_preset(preset: str, architecture: str) -> None:
    holds(preset, architecture, "float32", above=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [preset for preset in SHAPES if preset != "tiny"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_preset_in_16_bit(preset: str, architecture: str) -> None:
    holds(preset, architecture, "bfloat16", above=0.10, below=0.10)


@pytest.mark.slow
def test_prompts_and_rollouts_do_not_raise_the_peak() -> None:
    usual, trained = step_peak(prompts=8, group_size=8)
    assert trained
    for prompts, group_size in ((64, 8), (8, 64)):
        peak, _ = step_peak(prompts, group_size)
        assert peak <= 1.05 * usual
