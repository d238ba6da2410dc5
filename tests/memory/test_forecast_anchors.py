"""The forecast against public measurements of other programs that do about the same: within the factor it claims.

They are no measurements of this project; nothing of it has been timed on a GPU yet.
"""

from __future__ import annotations

import pytest

from expo_lite.memory.cards import CARDS
from expo_lite.memory.forecast import FACTOR, within
from expo_lite.memory.pace import pace_of
from expo_lite.memory.plan import Workload
from expo_lite.memory.shapes import KNOWN

QLORA = Workload(16, quantised=True, checkpointing=True, optimizer="adamw_8bit", value_bytes=2, on_gpu=True)
LORA = Workload(16, quantised=False, checkpointing=True, optimizer="adamw_8bit", value_bytes=2, on_gpu=True)
CLAIMED = {"two": 2, "three": 3, "four": 4}[FACTOR]


@pytest.fixture(autouse=True)
def pefts_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others generate with PEFT's LoRA layers, which take 89 operators in a layer of the model (test_pace.py)."""
    monkeypatch.setattr("expo_lite.memory.pace.OPERATORS_PER_LAYER", 89)


def test_the_factor_is_said() -> None:
    assert f"within a factor of {FACTOR}, because" in within()


def off_by(forecast: float, measured: float) -> float:
    return max(forecast / measured, measured / forecast)


def test_a_qlora_step_on_a_free_t4() -> None:
    """TRL's QLoRA notebook: Qwen2-7B (the shape of Qwen2.5-7B), 8 completions of 256 tokens, 94 s a step."""
    pace = pace_of(CARDS["T4"], KNOWN["Qwen/Qwen2.5-7B-Instruct"], QLORA)
    prompt = 150
    step = 256 * pace.decoded_token(8, prompt + 128) + 8 * (prompt + 256) * pace.trained_token
    assert off_by(step, 94) < CLAIMED


def test_eager_decoding_on_a_b200() -> None:
    """Unsloth's issue 5108: Qwen3-4B with LoRA, 32 sequences, transformers' continuous batching: 506 tokens/s."""
    pace = pace_of(CARDS["B200"], KNOWN["Qwen/Qwen3-4B"], LORA)
    assert off_by(32 / pace.decoded_token(32, 500), 506) < CLAIMED


@pytest.mark.parametrize("rollouts", [8, 64])
def test_a_token_of_7b_on_a_4090_is_the_hosts(rollouts: int) -> None:
    """A study's estimate: 45 to 60 ms of launches, which both numbers of rollouts wait for."""
    pace = pace_of(CARDS["RTX 4090"], KNOWN["Qwen/Qwen2.5-7B-Instruct"], QLORA)
    assert 0.045 < pace.decoded_token(rollouts, 1100) < 0.060
