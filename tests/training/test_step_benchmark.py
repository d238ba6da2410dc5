"""The comparison with TRL: both sides do the work that they are said to do, and the figures mean what they say."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch

from benchmarks.step import Result, memory_table, ratios, sweep, time_table
from benchmarks.step_case import Case, Measured, problems_of
from benchmarks.step_floor import Machine, draw, floor_seconds
from benchmarks.step_sides import ours
from expo_lite.memory.shapes import ModelShape

SMALL = Case("grpo", prompts=2, group=4, tokens=6, steps=2, micro_batch=4)
PROMPT = 9  # tokens of a sum of two numbers in the tiny base's chat


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """The sides set torch's threads for their process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("side", "failed", "generated", "trained"),
    [
        ("grpo", 0, 8 * 6, 8 * 6),
        ("grpo", 1, 8 * 6, 4 * 6),  # a failed group teaches GRPO nothing
        ("expo", 1, 8 * 6 + 4 * 6, 4 * 6 + 6),  # and ExPO one of four explanations
        ("expo", 2, 8 * 6 + 8 * 6, 2 * 6),
    ],
)
def test_a_step_here_is_as_long_as_it_is_said(side: str, failed: int, generated: int, trained: int) -> None:
    measured = ours(replace(SMALL, side=side, failed=failed), time.time())
    assert (measured.generated, measured.trained) == (generated, trained)
    assert measured.prompt_tokens == 8 * PROMPT
    assert len(measured.seconds) == len(measured.cpu_seconds) == len(measured.generating) == 1
    assert 0 < measured.generating[0] < measured.seconds[0]
    assert measured.peak_mib >= measured.loaded_mib > 0
    assert f"micro_batch_tokens={4 * (PROMPT + 6)}" in measured.settings


@pytest.mark.skipif(
    metadata.version("trl") == "1.15.0" and importlib.util.find_spec("triton") is None,
    reason="TRL 1.15.0 does not run without Triton",
)
def test_trl_does_the_same_work() -> None:
    from benchmarks.step_trl import trls

    measured = trls(replace(SMALL, side="trl"), time.time())
    assert (measured.generated, measured.trained, measured.prompt_tokens) == (48, 48, 8 * PROMPT)
    assert len(measured.seconds) == len(measured.generating) == 1
    assert 0 < measured.generating[0] < measured.seconds[0]


def test_a_pass_of_training_divides_the_step() -> None:
    assert replace(SMALL, prompts=3, micro_batch=8).at_once == 4
    assert replace(SMALL, prompts=1, micro_batch=16).at_once == 4


def test_every_step_has_problems_of_its_own() -> None:
    steps = problems_of(replace(SMALL, steps=3))
    assert [len(of_step) for of_step in steps] == [2, 2, 2]
    assert len({problem.id for of_step in steps for problem in of_step}) == 6


def measured(seconds: float, **others: float) -> Measured:
    given = {"first_step": 9, "generated": 30, "trained": 20, "loaded_mib": 100, "peak_mib": 160, "model_mib": 40}
    return Measured([seconds] * 3, [seconds / 2] * 3, [seconds / 4] * 3, **{**given, **others})


def test_ratios_are_those_of_each_turn() -> None:
    found = [
        {"trl": measured(8), "grpo": measured(4), "expo": measured(2)},
        {"trl": measured(9), "grpo": measured(3), "expo": measured(9)},
    ]
    assert ratios(found, "grpo", "seconds") == [2, 3]
    assert ratios(found, "expo", "cpu_seconds") == [4, 1]
    result = Result(SMALL, found, {"grpo": 0.5, "expo": 0.25})
    row = time_table([result]).splitlines()[2]
    assert "| GRPO | 8.50 | 3.50 | 0.50 | 2.50 (2.00 to 3.00) |" in row
    assert "| 14 : 35 | 3 : 8 |" in row  # 30 tokens in 2 and 2.25 s, in 1 and 0.75 s; 20 in 6 and 6.75, 3 and 2.25
    assert "| tiny, float32 | GRPO | 160 | 60 | 40 | 9.0 (9.0 to 9.0) |" in memory_table([result])


def test_the_floor_by_hand() -> None:
    """Hidden size 2, one layer of q, k, v, o (2 x 2) and a gated MLP (2 x 3, three times): 34 weights; a head of 10."""
    shape = ModelShape("by hand", 1, 2, 1, 1, 2, 3, 5, tied=True)
    case, lora = Case("grpo", prompts=2, group=3, tokens=4), 16 * (4 * 4 + 3 * 5)
    prefill, decoding = 2 * 34 * 2 * 7, 4 * 2 * 44 * 6  # operations; 6 rows
    training = (2 * 7 + 6 * 4) * (4 * 34 + 6 * lora) + 4 * 10 * 24
    assert floor_seconds(case, shape, 7, Machine(1.0, 1e9)) == pytest.approx(prefill + decoding + training)
    slow = floor_seconds(case, shape, 7, Machine(1e30, 8.0))
    assert slow == pytest.approx(4 * 44 * 4 / 8)  # float32 weights are read once a token, whatever the rows


def test_the_floor_of_failed_groups() -> None:
    shape, reading = ModelShape("by hand", 1, 2, 1, 1, 2, 3, 5, tied=True), Machine(1e30, 44 * 4.0)
    failed = [floor_seconds(Case("expo", prompts=2, tokens=4, failed=n), shape, 7, reading) for n in (0, 1, 2)]
    assert failed == pytest.approx([4, 8, 8])  # explanations are written together, after the rollouts


def test_the_sweep_asks_trl_once_where_groups_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Case] = []

    def stub(case: Case, trl: object) -> Measured:
        asked.append(case)
        return measured(1.0, prompt_tokens=9 * case.rollouts)

    monkeypatch.setattr("benchmarks.step.run", stub)
    panels = dict(sweep(SMALL, None))
    assert [x for x, _ in panels["rollouts"]["grpo"]] == [4, 8, 16]  # of 1, 2 and 4 problems
    assert [x for x, _ in panels["tokens"]["expo"]] == [2, 3, 6, 12]
    assert [x for x, _ in panels["failed groups"]["trl"]] == [0, 1, 2]
    assert set(panels["failed groups"]) == {"trl", "expo", "floor"}
    assert len([case for case in asked if case.side == "trl"]) == 3 + 4 + 1
    draw(tmp_path / "step.png", list(panels.items()))
    assert (tmp_path / "step.png").stat().st_size > 10_000
