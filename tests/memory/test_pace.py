"""The pace that a card's data sheet gives: its counts against real modules, its seconds against a hand's sum."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.tiny_models import live_units, nf4_policy, save_base
from torch.utils._python_dispatch import TorchDispatchMode

from expo_lite.memory.cards import CARDS, repeats_kv
from expo_lite.memory.pace import (
    OPERATORS_PER_LAYER,
    OPERATORS_PER_NORM_OF_HEADS,
    Pace,
    decoding_seconds,
    launching_seconds,
    pace_of,
    training_seconds,
)
from expo_lite.memory.plan import Workload, saved_bytes_per_token
from expo_lite.memory.shapes import KNOWN
from expo_lite.model.sampler import Sampler, SampleRequest

QLORA = Workload(16, quantised=True, checkpointing=True, optimizer="adamw_8bit", value_bytes=2, on_gpu=True)
PEFTS_OPERATORS_PER_LAYER = 89
SEVEN = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
NO_LAUNCH = {
    *("view", "_unsafe_view", "t", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "split"),
    *("empty", "empty_like", "new_empty"),
}


class Launches(TorchDispatchMode):
    """Counts the operators that compute something: on a GPU each is a launch at least."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func._schema.name.partition("::")[2]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return sum(count for name, count in self.names.items() if name not in NO_LAUNCH)


def operators_of_a_token(folder: Path, architecture: str, layers: int, light: bool = True) -> int:
    """Operators that one more token of two prompts' rollouts takes, with LoRA on 4-bit weights, in bfloat16."""
    base = save_base(folder / f"{architecture}{layers}", architecture, num_hidden_layers=layers)
    policy = nf4_policy(base, dtype="bfloat16")
    policy.end_ids = []
    policy.replaces_linears = light
    sampler, counted = Sampler(policy, live_units()), [0]
    forward = sampler._forward

    def counting(*args: Any) -> Any:
        with Launches() as launches:
            logits = forward(*args)
        counted.append(launches.total)
        return logits

    sampler._forward = counting  # type: ignore[method-assign]
    sampler.sample([SampleRequest([3, 20, 6, 7, 4], 4, ("a",)), SampleRequest([3, 20, 6], 4, ("b",))], 6)
    return counted[-1]


@pytest.mark.parametrize(("architecture", "normed"), [("qwen2", 0), ("llama", 0), ("qwen3", 2)])
def test_operators_per_layer(tmp_path: Path, architecture: str, normed: int) -> None:
    more = operators_of_a_token(tmp_path, architecture, 3) - operators_of_a_token(tmp_path, architecture, 2)
    assert more == OPERATORS_PER_LAYER + normed * OPERATORS_PER_NORM_OF_HEADS


def test_operators_per_layer_with_pefts_own(tmp_path: Path) -> None:
    three, two = (operators_of_a_token(tmp_path, "qwen2", layers, light=False) for layers in (3, 2))
    assert three - two == PEFTS_OPERATORS_PER_LAYER


def test_the_launches_of_7b_are_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """28 layers: 45 to 60 ms a token on usual hosts with PEFT's own; on one host 56 with them, 36 with light ones."""
    assert 0.030 < launching_seconds(SEVEN) < 0.042
    monkeypatch.setattr("expo_lite.memory.pace.OPERATORS_PER_LAYER", PEFTS_OPERATORS_PER_LAYER)
    assert 0.045 < launching_seconds(SEVEN) < 0.060


@pytest.mark.parametrize(("rollouts", "milliseconds"), [(64, 28), (8, 7)])
def test_a_decoded_token_of_7b_on_a_4090(rollouts: int, milliseconds: float) -> None:
    """Of a table made by hand, at 70 % of the bandwidth: weights 20, KV of 1,100 tokens 6, head and sampling 2.4 ms."""
    seconds = decoding_seconds(CARDS["RTX 4090"], SEVEN, QLORA, rollouts, 1100)
    assert 1e3 * seconds == pytest.approx(milliseconds, rel=0.1)


def test_what_takes_longer_counts() -> None:
    slow, fast = (pace_of(CARDS[name], SEVEN, QLORA) for name in ("RTX 4060 Ti 16GB", "RTX 4090"))
    assert fast.decoded_token(64, 1100) == launching_seconds(SEVEN) == fast.decoded_token(8, 1100)
    assert slow.decoded_token(64, 1100) == decoding_seconds(CARDS["RTX 4060 Ti 16GB"], SEVEN, QLORA, 64, 1100)
    assert pace_of(CARDS["T4"], SEVEN, QLORA).decoded_token(1, 1) == 2 * launching_seconds(SEVEN)  # Colab's host
    assert (
        Pace.measured({8: 0.5}, 0.1).decoded_token(1, 1) == Pace.measured({8: 0.5}, 0.1).decoded_token(99, 999) == 0.5
    )


def test_a_small_wave_takes_what_two_sizes_say() -> None:
    """A line through both; where a small one takes longer by chance, all take as long as the full one."""
    pace = Pace.measured({16: 0.2, 128: 0.9}, 0.1)
    assert [pace.decoded_token(n, 1) for n in (16, 72, 128)] == pytest.approx([0.2, 0.55, 0.9])
    assert Pace.measured({16: 1.0, 128: 0.9}, 0.1).decoded_token(16, 1) == 0.9
    assert Pace.measured({16: 0.0, 128: 0.9}, 0.1).decoded_token(1, 1) == 0.0


def test_training_by_hand() -> None:
    """6 operations a parameter of the blocks, and 6 of the head (two passes forward, one back); 35 % of 165 TFLOP/s."""
    blocks, head = 6.525e9, 152064 * 3584
    expected = (6 * blocks + 6 * head) / (0.35 * 165e12)
    assert training_seconds(CARDS["RTX 4090"], SEVEN, QLORA) == pytest.approx(expected, rel=1e-3)


def test_16_bit_weights_are_read_whole() -> None:
    whole = Workload(16, quantised=False, checkpointing=True, optimizer="adamw_8bit", value_bytes=2, on_gpu=True)
    more = decoding_seconds(CARDS["H100"], SEVEN, whole, 1, 1) - decoding_seconds(CARDS["H100"], SEVEN, QLORA, 1, 1)
    assert more == pytest.approx((2 - 0.516) * SEVEN.linear_parameters / (0.7 * 3350e9), rel=1e-6)


def test_older_cards_repeat_keys_and_values() -> None:
    """Below capability 8.0: of one layer, keys and values once per query head (28) instead of 4 times, in 16 bit."""
    assert [name for name, card in CARDS.items() if repeats_kv(card.capability)] == ["T4"]
    older = Workload(16, True, True, "adamw_8bit", 2, True, repeats_kv=True)
    assert saved_bytes_per_token(SEVEN, older) - saved_bytes_per_token(SEVEN, QLORA) == 2 * 2 * (28 - 4) * 128
