"""Sequences as a tree of tokens: each prefix once, and the same numbers and gradients as row by row."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from support.tiny_models import ARCHITECTURES, save_base, save_base_of_another_family
from torch import Tensor

from expo_lite.config.settings import PolicyConfig
from expo_lite.model.grouped_attention import GROUPED_DECODING, REPEATED_HEADS
from expo_lite.model.policy import Policy, load_policy
from expo_lite.model.prefix_tree import Nodes

PROMPT = [3, 7, 9, 12]
SEQUENCES = [
    [*PROMPT, 8, 15, 9, 16],
    [*PROMPT, 8, 15, 4],
    [*PROMPT, 11],
    PROMPT,  # ends where others go on
    [*PROMPT, 8, 15, 9, 16],  # twice
    [3, 7, 5, 5, 6, 9],  # another prompt that begins alike
    [9],
]


def policy_of(folder: Path, **settings: object) -> Policy:
    config = PolicyConfig(model=str(folder), device="cpu", quantization="none", lora_rank=4, **settings)  # type: ignore[arg-type]
    policy = load_policy(config, 0)
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy


def numbers_and_gradient(policy: Policy, tree: bool) -> tuple[Tensor, Tensor]:
    """Hidden states of all tokens, sequence by sequence, and the gradient of a sum that weighs each another way."""
    if tree:
        nodes = Nodes(SEQUENCES)
        states = policy.hidden_states(nodes.on(policy.device))[0]
        found = torch.cat([states[path] for path in nodes.paths])
    else:
        found = torch.cat([policy.hidden_states(torch.tensor([sequence]))[0] for sequence in SEQUENCES])
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((found * weights).sum(), policy.trainable)
    return found.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def assert_same(policy: Policy) -> None:
    found, gradient = numbers_and_gradient(policy, tree=True)
    expected, plain = numbers_and_gradient(policy, tree=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (gradient - plain).norm() < 1e-5 * plain.norm()


def test_each_prefix_is_one_node() -> None:
    rng = random.Random(0)
    for _ in range(50):
        sequences = [[rng.randrange(3) for _ in range(rng.randint(1, 7))] for _ in range(rng.randint(1, 9))]
        nodes = Nodes(sequences)
        prefixes = {tuple(s[: end + 1]) for s in sequences for end in range(len(s))}
        assert len(nodes.tokens) == len(prefixes)
        grid = [token for s in sequences for token in s + [None] * (nodes.width - len(s))]
        for sequence, path in zip(sequences, nodes.paths, strict=True):
            assert [nodes.tokens[node] for node in path] == sequence
            assert [nodes.depths[node] for node in path] == list(range(len(sequence)))
        assert [grid[place] for place in nodes.places] == nodes.tokens
        assert len(set(nodes.places)) == len(nodes.places)


@pytest.mark.parametrize("attention", [GROUPED_DECODING, REPEATED_HEADS])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hidden_states_and_gradients_are_those_of_single_rows(
    tmp_path: Path, architecture: str, checkpointing: bool, attention: str
) -> None:
    policy = policy_of(save_base(tmp_path, architecture), gradient_checkpointing=checkpointing)
    policy.causal_lm.set_attn_implementation(attention)
    assert policy.takes_trees
    assert_same(policy)


@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_other_families_too(tmp_path: Path, family: str) -> None:
    policy = policy_of(save_base_of_another_family(tmp_path, family))
    assert policy.takes_trees
    assert_same(policy)


def test_linear_layers_see_each_token_once(tmp_path: Path) -> None:
    policy = policy_of(save_base(tmp_path))
    seen: list[int] = []
    layer = policy.causal_lm.get_decoder().layers[0].mlp
    layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[:-1].numel()))
    policy.hidden_states(Nodes(SEQUENCES).on(policy.device))
    assert seen == [len({tuple(s[: end + 1]) for s in SEQUENCES for end in range(len(s))})]


def test_windows_and_other_attention_take_no_trees(tmp_path: Path) -> None:
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    assert not policy_of(save_base(tmp_path / "windows", **windows)).takes_trees
    policy = policy_of(save_base(tmp_path / "full"))
    for attention in ("sdpa", "eager"):
        policy.causal_lm.set_attn_implementation(attention)
        assert not policy.takes_trees
