"""The plan against measured tables and real modules; the budget; going on after an out-of-memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from support.naive_step import naive_gradient, random_step
from support.tiny_models import (
    ARCHITECTURES,
    GradientRecorder,
    live_units,
    nf4_policy,
    save_base,
    tiny_config,
    tiny_policy,
    tiny_trainer,
)
from support.workloads import QLORA

from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, MemoryBudgetError
from expo_lite.memory.budget import LARGEST_MICRO_BATCH, BudgetedPlan, budgeted_plan, workload_of
from expo_lite.memory.plan import GIB, activation_bytes, kv_bytes_per_token, logprob_bytes, weight_bytes
from expo_lite.memory.remedies import require_fit
from expo_lite.memory.shapes import KNOWN, find_shape, shape_from_config
from expo_lite.model.base import quantised_linears
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.sequences import training_sequences

# An allocation ledger over real bitsandbytes modules on meta tensors: weights with adapters, the same with gradients
# and 8-bit optimizer (GiB), KV cache and checkpoints (KiB a token), slope of the backward pass (KiB a token).
MEASURED = {
    "Qwen/Qwen2.5-0.5B-Instruct": (0.46, 0.51, 12, 42, 150),
    "Qwen/Qwen2.5-1.5B-Instruct": (1.13, 1.24, 28, 84, 278),
    "Qwen/Qwen2.5-3B-Instruct": (2.03, 2.19, 36, 144, 389),
    "Qwen/Qwen2.5-7B-Instruct": (5.32, 5.54, 56, 196, 619),
    "meta-llama/Llama-3.2-3B-Instruct": (2.18, 2.32, 112, 168, 423),
    "Qwen/Qwen3-4B": (2.59, 2.78, 144, 180, 465),
    "Qwen/Qwen3-8B": (5.82, 6.07, 144, 288, 665),
}


@pytest.mark.parametrize("model", MEASURED)
def test_closed_form_against_the_ledger(model: str) -> None:
    """Exact for what is stored; for the backward pass never below, and at most 2 % above."""
    shape = KNOWN[model]
    static, steady, kv, checkpoints, slope = MEASURED[model]
    lora, weights = shape.lora_parameters(16), weight_bytes(shape, QLORA)
    assert (weights + 4 * lora) / GIB == pytest.approx(static, abs=0.011)
    assert (weights + 10.06 * lora) / GIB == pytest.approx(steady, abs=0.011)
    assert kv_bytes_per_token(shape, QLORA) / 1024 == kv
    assert 2 * shape.layers * shape.hidden / 1024 == checkpoints
    per_token = (activation_bytes(shape, QLORA, 8000) - activation_bytes(shape, QLORA, 4000)) / 4000 / 1024
    assert slope <= per_token <= 1.02 * slope


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_of_a_real_4_bit_model(tmp_path: Path, architecture: str) -> None:
    """Every byte of the loaded base: packed weights, scales, codebooks, and what is not quantised (here float32)."""
    folder = save_base(tmp_path / architecture, architecture)
    policy = nf4_policy(folder)
    frozen = sum(p.nbytes for p in policy.model.parameters() if not p.requires_grad)
    for layer in quantised_linears(policy.model):
        state: Any = layer.weight.quant_state
        tensors = [state.absmax, state.code, state.state2.absmax, state.state2.code]
        frozen += sum(t.nbytes for t in tensors)
    shape = find_shape(str(folder))
    planned = weight_bytes(shape, workload_of(tiny_config(), shape, on_gpu=False))
    assert frozen <= planned <= 1.25 * frozen  # such small matrices are mostly codebooks


@pytest.mark.parametrize("name", ["exported", "exported/README.md"])
def test_what_is_here_but_no_saved_model_is_not_asked_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would try five times, and say that there is no such folder."""
    asked: list[object] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *given: asked.append(given))
    monkeypatch.chdir(tmp_path)
    Path("exported").mkdir()
    Path("exported/README.md").touch()
    with pytest.raises(ConfigError, match=rf"^policy\.model: {name} is no folder with a saved model: .* config\.json"):
        find_shape(name)
    assert not asked


def card(budget: float, model: str, **settings: Any) -> tuple[Config, BudgetedPlan]:
    """A run of 8 problems with 8 rollouts of 1024 tokens on a card."""
    values = {"policy__model": model, "policy__gradient_checkpointing": True, "optimizer__name": "adamw_8bit"}
    values |= {"rollout__max_new_tokens": 1024, "rollout__prompts_per_step": 8, "rollout__group_size": 8}
    config = tiny_config(**(values | settings))
    return config, budgeted_plan(config, KNOWN[model], budget, on_gpu=True)


@pytest.mark.parametrize(
    ("budget", "model"),
    [(4, "Qwen/Qwen2.5-1.5B-Instruct"), (12, "Qwen/Qwen2.5-3B-Instruct"), (14, "Qwen/Qwen2.5-7B-Instruct")],
)
def test_the_budget_is_kept_and_used(budget: float, model: str) -> None:
    config, planned = card(budget, model)
    require_fit(config, planned)
    assert planned.plan.peak <= 0.9 * budget * GIB
    one_more = planned.units.micro_batch_tokens + 1
    assert one_more > LARGEST_MICRO_BATCH or not card(budget, model, memory__micro_batch_tokens=one_more)[1].fits
    assert (
        planned.units.rollouts_alive == 64
        or not card(budget, model, memory__rollouts_alive=planned.units.rollouts_alive + 1)[1].fits
    )


@pytest.mark.parametrize("settings", [{"rollout__prompts_per_step": 800}, {"explanation__samples": 500}])
def test_the_peak_does_not_grow_with_the_step(settings: dict[str, Any]) -> None:
    """Not with prompts per step, group size or the number of failed prompts: more of them follow others instead."""
    _, many = card(12, "Qwen/Qwen2.5-3B-Instruct", **settings)
    assert many.plan.peak <= many.limit


def test_what_is_set_by_hand_is_kept() -> None:
    settings = {"memory__rollouts_alive": 3, "memory__micro_batch_tokens": 2000, "memory__logprob_chunk": 17}
    _, planned = card(24, "Qwen/Qwen2.5-7B-Instruct", **settings)
    units = planned.units
    assert (units.rollouts_alive, units.micro_batch_tokens, units.logprob_chunk) == (3, 2000, 17)


def test_too_large_by_hand_names_the_setting() -> None:
    config, planned = card(8, "Qwen/Qwen2.5-3B-Instruct", memory__rollouts_alive=4000)
    with pytest.raises(MemoryBudgetError, match=r"memory\.budget_gib: .* it fits with memory\.rollouts_alive null$"):
        require_fit(config, planned)


def test_the_largest_completion_that_fits_is_named_and_fits() -> None:
    config, planned = card(8, "Qwen/Qwen2.5-3B-Instruct", rollout__max_new_tokens=50_000)
    with pytest.raises(MemoryBudgetError, match=r"it fits with rollout\.max_new_tokens \d+$") as caught:
        require_fit(config, planned)
    tokens = int(str(caught.value).rsplit(" ", 1)[1])
    assert card(8, "Qwen/Qwen2.5-3B-Instruct", rollout__max_new_tokens=tokens)[1].fits
    assert not card(8, "Qwen/Qwen2.5-3B-Instruct", rollout__max_new_tokens=tokens + 1)[1].fits


def test_a_model_that_is_too_large_is_said_to_be() -> None:
    config, planned = card(4, "Qwen/Qwen2.5-7B-Instruct")
    with pytest.raises(MemoryBudgetError, match=r"it fits with policy\.model \S+; or with memory\.budget_gib"):
        require_fit(config, planned)


def test_log_probabilities_count_where_the_chunk_is_large() -> None:
    shape = KNOWN["Qwen/Qwen2.5-0.5B-Instruct"]
    assert logprob_bytes(shape, QLORA, 4096, 4096) > activation_bytes(shape, QLORA, 4096)


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy\.model: some/model: its config\.json has no 'hidden_size'"):
        shape_from_config("some/model", {"num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 32})


def test_the_names_of_other_families() -> None:
    """GPT-2's, with the MLP that it has where its config.json names none."""
    shape = shape_from_config(
        "some/gpt2", {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_inner": None, "vocab_size": 50257}
    )
    assert (shape.layers, shape.heads, shape.kv_heads, shape.head_dim, shape.mlp) == (12, 12, 12, 64, 3072)


@pytest.mark.parametrize("key", ["num_experts", "num_local_experts", "n_routed_experts"])
def test_mixtures_of_experts_are_refused(key: str) -> None:
    dense = {
        "num_attention_heads": 2,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    assert shape_from_config("some/model", {**dense, key: 0}).layers == 1
    with pytest.raises(ConfigError, match=rf"its config\.json has {key}; memory is planned for dense decoders only"):
        shape_from_config("some/model", {**dense, key: 8})


def failing_above(size: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    """`forward`, out of memory at the end of every ninth pass with more than `size` rows."""
    passes = [0]

    def limited(ids: Any, *args: Any) -> Any:
        result = forward(ids, *args)
        passes[0] += 1
        if len(ids) > size and passes[0] % 9 == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return result

    return limited


def test_out_of_memory_in_a_wave_changes_no_token() -> None:
    policy = tiny_policy()
    requests = [SampleRequest([3, 20, 6, 7, 4], 4, ("a",)), SampleRequest([3, 20, 8, 4], 3, ("b",))]
    expected = [[c.completion_ids for c in of] for of in Sampler(policy, live_units(64)).sample(requests, 20)]
    sampler = Sampler(policy, live_units(64))
    sampler._forward = failing_above(2, sampler._forward)  # type: ignore[method-assign]
    assert [[c.completion_ids for c in of] for of in sampler.sample(requests, 20)] == expected
    assert sampler.units.rollouts_alive < 64 and sampler.units.halvings > 0
    halvings = sampler.units.halvings
    sampler.units.rollouts_alive = 2
    sampler.sample(requests, 20)
    assert sampler.units.halvings == halvings  # the smaller size is kept to


def test_out_of_memory_in_a_micro_batch_changes_no_gradient() -> None:
    """Also where it strikes after the backward pass: nothing of the failed attempt is left in the gradients."""
    policy = tiny_policy()
    config = tiny_config(rollout__group_size=4, explanation__weight=0.3)
    groups, explanations = random_step(policy, seed=0)
    sequences = training_sequences(groups, explanations, config)
    recorder = GradientRecorder(policy)
    updater = tiny_trainer(config, policy, optimizer=recorder).updater
    accumulate = updater.accumulate_gradients
    calls = []

    def limited(batch: Any) -> Any:
        calls.append(len(batch.sequences))
        if len(batch.sequences) > 2:
            updater.loss(batch, updater.logprobs(batch)[0]).detach()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return accumulate(batch)

    updater.accumulate_gradients = limited  # type: ignore[method-assign]
    metrics = updater.update(sequences)
    (gradient,) = recorder.gradients
    expected = naive_gradient(policy, config, groups, explanations)
    assert max(calls) > 2 and updater.units.halvings > 0 and metrics["updates"] == 1
    assert (gradient - expected).norm() < 1e-5 * expected.norm()


def test_a_single_sequence_that_does_not_fit_is_a_clear_error() -> None:
    policy = tiny_policy()
    sampler = Sampler(policy, live_units(8))
    sampler._forward = failing_above(0, sampler._forward)  # type: ignore[method-assign]
    with pytest.raises(MemoryBudgetError, match=r"memory\.rollouts_alive: out of GPU memory with a single sequence"):
        sampler.sample([SampleRequest([3, 20, 4], 2, ("a",))], 20)
