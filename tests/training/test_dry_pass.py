"""The dry pass before step 1: the longest shapes really run, running out of memory shows there, and nothing stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import adapter_vector, save_base_of_another_family

from expo_lite.commands import train
from expo_lite.config.read import read_request
from expo_lite.config.settings import Config
from expo_lite.core.errors import MemoryBudgetError
from expo_lite.memory.forecast import HeldOut, in_words, longest_share
from expo_lite.memory.pace import Pace
from expo_lite.model.sampler import Sampler
from expo_lite.runs import session
from expo_lite.runs.assemble import Assembly, assemble, settle
from expo_lite.training.dry_pass import expected, rehearse

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

FLAGS = ["--preset", "tiny", "--rollout.prompts-per-step", "2", "--rollout.group-size", "4"]
SIZES = ["--memory.rollouts-alive", "6", "--memory.micro-batch-tokens", "300"]


@pytest.fixture
def parts() -> Iterator[tuple[Config, Assembly]]:
    config = read_request([*FLAGS, *SIZES], "test").config
    with assemble(settle(config)) as assembly:
        yield config, assembly


def shapes_seen(assembly: Assembly) -> list[tuple[int, int]]:
    """(rows, tokens) of every pass through the model from now on."""
    seen: list[tuple[int, int]] = []
    decoder = assembly.policy.causal_lm.get_decoder()
    decoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return seen


def dry_pass(parts: tuple[Config, Assembly]) -> Pace:
    config, assembly = parts
    return rehearse(config, assembly.sampler, assembly.trainer.updater, optimizer_bytes=1000)


def test_the_longest_shapes_are_run(parts: tuple[Config, Assembly]) -> None:
    seen = shapes_seen(parts[1])
    pace = dry_pass(parts)
    prompts, longest = 2, 32 + 64  # six rollouts, four of a prompt
    first = seen.index((prompts, 32 + 64 // 4))  # a quarter of a completion is there already
    assert seen[first + 1] == (6, 1)
    assert seen[-5:-3] == [(3, longest), (3, longest)]  # as many rows as 300 tokens hold, and nothing shared
    three, two = 32 + 3 * 63, 32 + 2 * 63  # then two prompts with four rollouts, each but for its last token
    assert seen[-3:] == [(1, three), (3, longest), (1, two)]  # one of the first and two of the other: no tree pays
    assert pace.decoded_token(6, 40) > 0
    assert pace.trained_token > 0


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("gpt2", ""),
        ("neox", ""),
        ("opt", "sampling and training disagree by"),  # its positions come out of the attention mask
        ("bloom", "models of this family cannot be sampled from here"),
    ],
)
def test_a_family_that_is_not_the_same_in_sampling_and_training(
    architecture: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_base_of_another_family(tmp_path / "base", architecture)
    few = ["--data.test-problems", "1", "--data.validation-problems", "1", "--steps", "1"]
    status = train.main([*FLAGS, *SIZES, *few, "--policy.model", str(base), "--run", str(tmp_path / "run")])
    words = capsys.readouterr().err.splitlines()
    assert status == (2 if said else 0)
    assert not said or words[-1].startswith(f"policy.model: {said}")


def test_its_rows_are_padded_as_in_a_run(parts: tuple[Config, Assembly], monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a card times the kernels that take no mask."""
    masked: list[bool] = []
    forward = Sampler._forward

    def noted(sampler: Sampler, ids: torch.Tensor, mask: Any, *rest: Any) -> torch.Tensor:
        if ids.shape[1] == 1:  # a prompt needs none
            masked.append(mask is not None)
        return forward(sampler, ids, mask, *rest)

    monkeypatch.setattr(Sampler, "_forward", noted)
    dry_pass(parts)
    assert masked and all(masked)


def test_what_the_pace_means() -> None:
    """A tenth of a second a token, at most 24 rows: of the 40 answers of a validation or a test 16 follow others."""
    config = read_request([*FLAGS, "--rollout.max-new-tokens", "100", "--evaluation.samples", "2"], "test").config
    said = expected(config, 24, Pace.measured({24: 0.1}, 0.001), HeldOut(validation=20, test=20))
    tokens = (16 / (7 / 8 * 24) * longest_share(1) + longest_share(24)) * 100
    assert f"about {in_words(0.2 * tokens)} of scores before step 1, then " in said
    assert f"{in_words(0.1 * tokens)} per validation: " in said


def test_the_run_says_it_with_the_problems_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pace = Pace.measured({6: 60.0}, 0.0)
    monkeypatch.setattr(session, "rehearse", lambda *_: pace)
    monkeypatch.setattr(session.Loop, "to_the_end", lambda loop: 0)
    held_out = ["--data.validation-problems", "3", "--data.test-problems", "5"]
    assert train.main([*FLAGS, *SIZES, *held_out, "--run", str(tmp_path / "run")]) == 0
    config = read_request([*FLAGS, *SIZES], "test").config
    said = expected(config, 6, pace, HeldOut(validation=15, test=25))
    assert f"Dry pass: {said}" in " ".join(capsys.readouterr().out.split())


def test_nothing_stays(parts: tuple[Config, Assembly]) -> None:
    policy, updater = parts[1].policy, parts[1].trainer.updater
    before, random_state = adapter_vector(policy), torch.get_rng_state()
    dry_pass(parts)
    assert torch.equal(adapter_vector(policy), before)
    assert all(parameter.grad is None for parameter in policy.trainable)
    assert not updater.optimizer.state
    assert torch.equal(torch.get_rng_state(), random_state)


def test_sizes_are_halved_before_the_first_step(parts: tuple[Config, Assembly]) -> None:
    def too_much(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        rows, tokens = kwargs["input_ids"].shape
        if rows > 3 or (tokens == 96 and rows > 1):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    _, assembly = parts
    assembly.policy.causal_lm.get_decoder().register_forward_pre_hook(too_much, with_kwargs=True)
    dry_pass(parts)
    units = assembly.trainer.updater.units
    assert (units.rollouts_alive, units.micro_batch_tokens) == (3, 150)


def test_what_never_fits_ends_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise MemoryBudgetError("memory.rollouts_alive: out of GPU memory with a single sequence (CUDA out of memory)")

    monkeypatch.setattr(Sampler, "sample", never)
    run = tmp_path / "run"
    assert train.main([*FLAGS, *SIZES, "--run", str(run)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("memory.rollouts_alive: out of GPU memory with a single sequence (CUDA out of memory); ")
    assert "end other programs" in message and "lower rollout.max_new_tokens or a smaller policy.model." in message
    assert not run.exists()
