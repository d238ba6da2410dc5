"""What sequences share is computed once: the loss and gradient of an update stay those of the plain pass."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.tiny_models import ARCHITECTURES, GradientRecorder, nf4_policy, save_base, tiny_config, tiny_trainer
from torch import Tensor

from expo_lite.config.settings import Config, PolicyConfig
from expo_lite.core.records import TrainingSequence
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.measure import peak_on_cpu
from expo_lite.model.policy import Policy, load_policy
from expo_lite.model.prefix_tree import PAYS, PrefixTree
from expo_lite.training.dry_pass import longest_sequences
from expo_lite.training.micro_batches import by_prompt, collate
from expo_lite.training.sequence_logprobs import sequence_logprobs


def step_sequences() -> list[TrainingSequence]:
    """Two groups of ragged rollouts, an explanation under one of their prompts, one alone, a lone rollout; shuffled."""
    rng = random.Random(0)

    def tokens(most: int) -> list[int]:
        return [rng.randrange(5, 29) for _ in range(rng.randint(1, most))]

    prompts = [[3, *tokens(12)] for _ in range(4)]
    rollouts = [
        TrainingSequence(
            prompt, ids, advantage=rng.choice([-1.0, 0.5]), policy_weight=0.02, sampler_logprobs=[-1.0] * len(ids)
        )
        for prompt, count in zip(prompts, (6, 5, 1), strict=False)
        for ids in [tokens(18) for _ in range(count)]
    ]
    explained = [TrainingSequence(prompts[at], tokens(15), likelihood_weight=0.05) for at in (0, 3)]
    sequences = [*rollouts, *explained]
    rng.shuffle(sequences)
    return sequences


def update(policy: Policy, config: Config, attention: str) -> tuple[list[Tensor], dict[str, float], list[type]]:
    """The gradients and metrics of an update, and of what kind the model's inputs were."""
    policy.causal_lm.set_attn_implementation(attention)
    kinds: list[type] = []
    whole = policy.hidden_states

    def watched(inputs: Tensor | PrefixTree) -> Tensor:
        kinds.append(type(inputs))
        return whole(inputs)

    policy.hidden_states = watched  # type: ignore[method-assign]
    recorder = GradientRecorder(policy)
    metrics = tiny_trainer(config, policy, optimizer=recorder).updater.update(step_sequences())
    policy.hidden_states = whole  # type: ignore[method-assign]
    return recorder.gradients, metrics, kinds


@pytest.mark.parametrize("micro_batch_tokens", [60, 120, 10_000])
@pytest.mark.parametrize("kl", [0.0, 0.5])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_the_plain_pass(
    tmp_path: Path, architecture: str, kl: float, micro_batch_tokens: int
) -> None:
    """With 60 tokens, groups are split; two updates, so that old log-probabilities are taken as well."""
    policy = load_policy(
        PolicyConfig(model=str(save_base(tmp_path, architecture)), device="cpu", quantization="none", lora_rank=4), 0
    )
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    config = tiny_config(kl__coef=kl, objective__updates_per_batch=2, memory__micro_batch_tokens=micro_batch_tokens)
    plain, expected, without = update(policy, config, "sdpa")
    found, metrics, kinds = update(policy, config, "grouped_decoding")
    assert set(without) == {Tensor}
    assert PrefixTree in kinds
    assert len(found) == len(plain) == 2
    for one, same in zip(found, plain, strict=True):
        assert same.norm() > 1e-3
        assert (one - same).norm() < 1e-5 * same.norm()
    assert metrics == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_in_four_bit_with_checkpointing(tmp_path: Path) -> None:
    policy, config = nf4_policy(save_base(tmp_path), gradient_checkpointing=True), tiny_config()
    (plain,), _, _ = update(policy, config, "sdpa")
    (found,), _, kinds = update(policy, config, "grouped_decoding")
    assert set(kinds) == {PrefixTree}
    assert (found - plain).norm() < 1e-5 * plain.norm()


def test_explanations_under_a_prompt_are_scored_together(tmp_path: Path) -> None:
    policy = nf4_policy(save_base(tmp_path))
    sequences = step_sequences()
    found = sequence_logprobs(sequences, policy, LiveUnits(1, 10_000, 64))
    policy.causal_lm.set_attn_implementation("sdpa")
    for one, same in zip(found, sequence_logprobs(sequences, policy, LiveUnits(1, 10_000, 64)), strict=True):
        torch.testing.assert_close(one, same, atol=1e-5, rtol=1e-5)


def test_little_in_common_is_trained_on_in_padded_rows() -> None:
    """A tree with nearly all of the rows' tokens would take more memory than they do."""
    apart = [TrainingSequence([row, 3, 4], [5] * 27) for row in range(8)]
    alike = [replace(row, prompt_ids=[0, 0, 0], completion_ids=[5] * 20 + [row.prompt_ids[0]] * 7) for row in apart]
    device = torch.device("cpu")
    assert isinstance(collate(apart, 0, device, trees=True).inputs, Tensor)
    assert isinstance(collate(alike, 0, device, trees=True).inputs, PrefixTree)
    assert isinstance(collate(alike, 0, device, trees=False).inputs, Tensor)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_tree_takes_no_more_memory_than_the_plan_counts(tmp_path: Path, checkpointing: bool) -> None:
    """Padded rows are what it counts. The share is the largest at which a tree is used, queries are as wide as MLPs."""
    shape = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 128}
    policy = nf4_policy(save_base(tmp_path, **shape), quantization="none", gradient_checkpointing=checkpointing)
    updater = tiny_trainer(tiny_config(), policy).updater
    shared = round(128 * (1 - PAYS) * 16 / 15)
    rows = [TrainingSequence([5] * shared + [6 + row], [7] * (127 - shared), 1.0, 1e-3) for row in range(16)]
    peaks = {}
    for attention in ("sdpa", "grouped_decoding"):
        policy.causal_lm.set_attn_implementation(attention)
        assert isinstance(collate(rows, 0, policy.device, policy.takes_trees).inputs, PrefixTree) == policy.takes_trees
        list(updater.in_micro_batches(rows, updater.accumulate_gradients))
        peaks[attention] = peak_on_cpu(lambda: list(updater.in_micro_batches(rows, updater.accumulate_gradients)))
    assert peaks["grouped_decoding"] < peaks["sdpa"]


@pytest.mark.parametrize("prompt_tokens", [2, 32])
def test_the_dry_pass_trains_on_the_worst_case(prompt_tokens: int) -> None:
    """Its sequences share nearly nothing, or it would see less memory taken than a step may take."""
    rows = longest_sequences(tiny_config(rollout__max_prompt_tokens=prompt_tokens), 64)
    assert isinstance(collate(rows, 0, torch.device("cpu"), trees=True).inputs, Tensor)
    assert {row.length for row in rows} == {prompt_tokens + 24}


def test_a_group_stays_together() -> None:
    """Sorted by prompt, each prompt's sequences by length, and prompts by their longest."""
    order = by_prompt(step_sequences())
    prompts = [tuple(row.prompt_ids) for row in order]
    blocks = list(dict.fromkeys(prompts))
    assert prompts == [prompt for prompt in blocks for _ in range(prompts.count(prompt))]
    longest = [max(row.length for row in order if tuple(row.prompt_ids) == prompt) for prompt in blocks]
    assert longest == sorted(longest)
    assert len(order) == len(step_sequences())
