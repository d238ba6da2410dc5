"""What only a GPU can show (`pytest -m gpu`), and that its benchmark runs at all, on a small model without one."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from support.card import CARDS
from support.card_tensors import card
from support.tiny_models import adapter_vector, nf4_policy, save_base

from benchmarks.gpu import PRESETS, random_model, run, table
from expo_lite.config.read import read_request
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import KNOWN, ModelShape
from expo_lite.model.policy import load_policy, resolve_device

SMALL = ModelShape("small", 2, 64, 4, 2, 16, 128, 64, tied=True)
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("name", ["small qwen2", "small llama"])
def test_the_benchmark_runs_without_a_gpu(tmp_path: Path, name: str) -> None:
    shape = ModelShape(name, *(getattr(SMALL, field) for field in list(vars(SMALL))[1:]))
    flags = ["--policy.device", "cpu", "--rollout.max-new-tokens", "70", "--rollout.max-prompt-tokens", "16"]
    flags += ["--memory.rollouts-alive", "3", "--memory.micro-batch-tokens", "200"]
    config = read_request(["--preset", "8gb", *flags], "test").config
    result = run("8gb", config, random_model(shape, str(tmp_path)))
    assert result["decoded_tokens_per_s"] > 0  # type: ignore[operator]
    assert result["rollouts_alive"] == 3
    assert "| 8gb |" in table([result])


def test_the_16_bit_model_is_never_on_the_card(tmp_path: Path) -> None:
    """7B in 16 bit is 14.2 GiB: beyond most of the cards that the presets are for."""
    with card("4090") as driver:
        random_model(SMALL, str(tmp_path))
        assert driver.peak_allocated == 0


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("8gb", "4090"),
        *[pytest.param(*pair, marks=pytest.mark.slow) for pair in product(PRESETS, CARDS) if pair != ("8gb", "4090")],
    ],
)
def test_the_benchmark_runs_on_the_stand_in(preset: str, name: str, tmp_path: Path) -> None:
    flags = ["--rollout.max-new-tokens", "70", "--rollout.max-prompt-tokens", "16"]
    flags += ["--memory.rollouts-alive", "3", "--memory.micro-batch-tokens", "200"]
    config = read_request(["--preset", preset, *flags], "test").config
    with card(name) as driver:
        result = run(preset, config, random_model(SMALL, str(tmp_path)))
        assert result["device"] == driver.card.name
        assert 0 < result["training_gib"] < 1  # type: ignore[operator]
        assert result["graphs_used"]  # how fast is a difference of two short times, which may come out as nothing


def marked(test):  # type: ignore[no-untyped-def]
    """A test for a GPU."""
    for mark in needs_gpu:
        test = mark(test)
    return test


@marked
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_keeps_to_its_plan(tmp_path: Path, preset: str) -> None:
    config = read_request(["--preset", preset], "test").config
    device = resolve_device(config.policy.device)
    if config.memory.budget_gib * GIB > 1.05 * torch.cuda.get_device_properties(device).total_memory:  # type: ignore[operator]
        pytest.skip("this card is smaller than the preset's")
    result = run(preset, config, random_model(KNOWN[config.policy.model], str(tmp_path)))
    assert result["halvings"] == 0
    assert result["generation_gib"] <= result["generation_plan"]  # type: ignore[operator]
    assert result["training_gib"] <= result["training_plan"]  # type: ignore[operator]
    torch.cuda.set_per_process_memory_fraction(1.0)


@marked
def test_the_same_numbers_as_on_the_cpu(tmp_path: Path) -> None:
    """Log-probabilities of a small 4-bit model, in float32 on both."""
    folder = save_base(tmp_path)
    on_cpu = nf4_policy(folder)
    settings = read_request(["--preset", "tiny", "--policy.model", str(folder), "--policy.device", "cuda"], "test")
    config = settings.config.policy.model_copy(update={"dtype": "float32", "lora_rank": 4})
    on_gpu = load_policy(config, 0)
    for ours, theirs in zip(on_gpu.trainable, on_cpu.trainable, strict=True):
        ours.data.copy_(theirs.data)
    assert torch.equal(adapter_vector(on_gpu).cpu(), adapter_vector(on_cpu))
    ids = torch.randint(5, 30, (3, 20))
    positions, targets = torch.arange(0, 19), torch.randint(5, 30, (19,))
    expected, _ = on_cpu.completion_logprobs(ids, positions, targets, torch.ones(19), 8)
    device = on_gpu.device
    found, _ = on_gpu.completion_logprobs(
        ids.to(device), positions.to(device), targets.to(device), torch.ones(19, device=device), 8
    )
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)
