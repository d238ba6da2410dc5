"""What a step says of itself while it goes: phases, what is done of them, tokens, and nothing read for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import pytest
import torch
from support.tiny_models import live_units, tiny_config, tiny_policy, tiny_trainer
from test_sampler import refused_to
from torch import Tensor

from expo_lite.core.progress import (
    ChunkProgress,
    DecodingProgress,
    PhaseProgress,
    SequenceProgress,
    announced,
    in_phase,
)
from expo_lite.core.records import Completion, TrainingSequence
from expo_lite.grading.evaluator import Evaluator
from expo_lite.grading.verifier import Verifier
from expo_lite.model import sampler as sampler_module
from expo_lite.model.policy import Policy
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.problems import tiny_world
from expo_lite.training.micro_batches import MicroBatch
from expo_lite.training.step import StepReport, Trainer

PROBLEMS = [tiny_world.problem(operands) for operands in ((23, 45), (10, 20, 30), (31, 12))]
WATCHED = (
    "expo_lite.model.sampler",
    "expo_lite.training.updater",
    "expo_lite.training.micro_batches",
    "expo_lite.core.progress",
)
READS = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__iter__", "numpy", "cpu", "nonzero")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def trainer_of(policy: Policy, **settings: Any) -> Trainer:
    """A trainer that samples for real, 4 completions at once, and trains on 2 sequences at once."""
    config = tiny_config(explanation__samples=2, memory__micro_batch_tokens=96, **settings)
    return tiny_trainer(config, policy, Sampler(policy, live_units(4)))


def step_of(policy: Policy, **settings: Any) -> tuple[list[list[PhaseProgress]], StepReport]:
    """What one step said, by phase in their order."""
    told: list[PhaseProgress] = []
    report = trainer_of(policy, **settings).step(1, PROBLEMS, told.append)
    return [list(of_phase) for _, of_phase in groupby(told, lambda progress: progress.phase)], report


def assert_grows_to_the_end(of_phase: Sequence[PhaseProgress]) -> None:
    """From nothing to all, never back."""
    first, last = of_phase[0], of_phase[-1]
    assert (first.done, first.tokens, first.share) == (0, 0, 0.0)
    assert (last.done, last.share) == (last.total, 1.0) and last.total > 0
    assert {(progress.total, progress.unit) for progress in of_phase} == {(first.total, first.unit)}
    for before, after in pairwise(of_phase):
        assert before.done <= after.done and before.tokens <= after.tokens and before.share <= after.share
    assert all(type(p.done) is int and type(p.tokens) is int and type(p.share) is float for p in of_phase)


class TestAStep:
    def test_each_phase_goes_from_nothing_to_all(self, policy: Policy) -> None:
        phases, report = step_of(policy, kl__coef=0.1, objective__updates_per_batch=2)
        names = [of_phase[0].phase for of_phase in phases]
        assert names == ["rollouts", "verifying", "explanations", "verifying", "reference", "old policy", "training"]
        by_name = dict(zip(names, phases, strict=True))
        *others, both_updates = phases
        updates = [both_updates[: len(both_updates) // 2], both_updates[len(both_updates) // 2 :]]
        for of_phase in [*others, *updates]:
            assert_grows_to_the_end(of_phase)
        for name in ("rollouts", "explanations", "reference", "old policy"):  # not only at the end
            assert len({progress.done for progress in by_name[name]}) > 2

        rollouts = [rollout.completion for group in report.groups for rollout in group.rollouts]
        explanations = [e.completion for of_problem in report.explanations for e in of_problem]
        for name, completions in (("rollouts", rollouts), ("explanations", explanations)):
            last = by_name[name][-1]
            assert (last.total, last.unit) == (6, "completions") and len(completions) == 6
            assert last.tokens == sum(len(completion.completion_ids) for completion in completions)
        lengths = [len(completion.prompt_ids) + len(completion.completion_ids) for completion in rollouts]
        for last in (by_name["reference"][-1], by_name["old policy"][-1], *(update[-1] for update in updates)):
            assert (last.total, last.unit, last.tokens) == (6, "sequences", sum(lengths))

    def test_dpo_too(self, policy: Policy) -> None:
        trainer = trainer_of(policy, objective__name="dpo", explanation__filters=[])  # a random model's will do
        told: list[PhaseProgress] = []
        pairs = trainer.step(1, PROBLEMS, told.append).metrics["pairs"]
        phases = [list(of_phase) for _, of_phase in groupby(told, lambda progress: progress.phase)]
        assert [of_phase[0].phase for of_phase in phases[-3:]] == ["reference", "old policy", "training"]
        for of_phase in phases:
            assert_grows_to_the_end(of_phase)
        assert {of_phase[0].total for of_phase in phases[-3:]} == {2 * pairs}

    def test_what_there_is_nothing_of_is_no_phase(self, policy: Policy) -> None:
        phases, report = step_of(policy, explanation__source="none")
        assert report.metrics["updates"] == 0
        assert [of_phase[0].phase for of_phase in phases] == ["rollouts", "verifying"]

    def test_more_is_told_inside_a_wave_than_at_its_end(self, policy: Policy) -> None:
        """So that one long sampling shows how far it is: in time, while no completion has ended, and in tokens."""
        told: list[PhaseProgress] = []
        request = SampleRequest([3, 7, 9], 4, (0, "rollout", 1, "a"))
        end_ids, policy.end_ids = policy.end_ids, []
        try:
            Sampler(policy, live_units(4)).sample([request], 24, on_progress=told.append)
        finally:
            policy.end_ids = end_ids
        looks = range(0, 24 - 1, sampler_module.CHECK_EVERY)
        assert [(p.done, p.tokens, p.share) for p in told[1:-2]] == [
            (0, 4 * (t + 1), pytest.approx((t + 1) / 24)) for t in looks
        ]
        assert (told[-2].done, told[-2].share) == (4, 1.0)  # at the limit, before they are read
        assert (told[-1].done, told[-1].tokens, told[-1].share) == (4, 4 * 24, 1.0)


def test_a_micro_batch_that_did_not_fit_is_not_counted(policy: Policy) -> None:
    """Where memory runs out the same sequences are done again in halves."""
    updater, told = trainer_of(policy).updater, list[PhaseProgress]()
    rows = [TrainingSequence([1, 2], [3, 4])] * 4
    sizes = []

    def work(batch: MicroBatch) -> None:
        sizes.append(len(batch.sequences))
        if len(batch.sequences) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    list(updater.in_micro_batches(rows, work, told.append))
    assert sizes == [4, 2, 2]
    assert [(p.done, p.tokens) for p in told] == [(0, 0), (2, 8), (4, 16)]


def test_an_evaluation(policy: Policy) -> None:
    prompts = Prompts(policy.tokenizer, tiny_config().prompt)
    evaluator = Evaluator(Sampler(policy, live_units(4)), prompts, Verifier(), 3, 2, 24, 0.7)
    told: list[PhaseProgress] = []
    evaluator.evaluate(PROBLEMS, on_progress=in_phase("base test", told.append))
    phases = [list(of_phase) for _, of_phase in groupby(told, lambda progress: progress.phase)]
    assert [(of_phase[0].phase, of_phase[0].total) for of_phase in phases] == [("base test", 6), ("verifying", 6)]
    for of_phase in phases:
        assert_grows_to_the_end(of_phase)


def test_nothing_is_read_from_the_device_for_it(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reads of a step are those for who has finished, completions, gradient norms and an update's metrics."""
    reads: list[tuple[int, ...]] = []
    tolist = Tensor.tolist

    def read(tensor: Tensor) -> Any:
        reads.append(tuple(tensor.shape))
        return tolist(tensor)

    trainer, told = trainer_of(policy, kl__coef=0.1), list[PhaseProgress]()
    trainer.sampler.read = trainer.updater.read = read
    for name in READS:
        monkeypatch.setattr(Tensor, name, refused_to(WATCHED, getattr(Tensor, name)))
    report = trainer.step(1, PROBLEMS, told.append)
    batches = len([p for p in told if p.phase == "training"]) - 1
    assert report.metrics["updates"] == 1 and batches > 1
    taken = [shape for shape in reads if len(shape) == 2]  # tokens and log-probabilities of rows that have ended
    assert sum(rows for rows, _ in taken) == 2 * (6 + 6)
    looks = [shape for shape in reads if len(shape) == 1 and shape[0] <= 4]  # at most, for who has finished
    assert len(looks) <= sum(1 for p in told if p.phase in ("rollouts", "explanations")) - 2
    # a scalar with what is taken; the reference's log-probabilities; the gradient's norm and the metrics
    assert len(reads) <= len(looks) + len(taken) * 3 // 2 + batches + 2


class TestCounting:
    def test_what_is_whole_and_what_is_being_written(self) -> None:
        told: list[PhaseProgress] = []
        progress = DecodingProgress(4, 16, told.append)
        progress.seen([], [4, 4])
        progress.seen([5], [8])
        progress.written([completion(6)])
        progress.seen([], [12, 3])
        progress.written([completion(n) for n in (16, 4, 8)])
        progress.finished()
        assert [(p.done, p.tokens) for p in told] == [(0, 0), (0, 8), (1, 13), (1, 21), (4, 34)]

    def test_rows_are_expected_to_become_as_long_as_the_longest_so_far(self) -> None:
        told: list[PhaseProgress] = []
        progress = DecodingProgress(4, 100, told.append)
        progress.seen([], [10, 20])
        progress.written([completion(40)])
        progress.seen([], [10, 60])
        progress.seen([50], [10])
        assert [p.share for p in told] == pytest.approx(
            [0, 0.3 / 4, (1 + 0.25 + 1) / 4, (1 + 0.25 + 1) / 4]
        )  # never back

    def test_sequences_by_their_tokens(self) -> None:
        told: list[PhaseProgress] = []
        rows = [TrainingSequence([1], [2, 3]), TrainingSequence([1, 2], [3]), TrainingSequence([1], [2] * 5)]
        progress = SequenceProgress(rows, told.append)
        progress.add(rows[:2])
        progress.add(rows[2:])
        assert [(p.done, p.tokens, p.share) for p in told] == [(0, 0, 0.0), (2, 6, 0.5), (3, 12, 1.0)]

    def test_chunks_as_a_whole(self) -> None:
        """10 completions, of which 2 were there before; chunks of 4 with 50 and 30 tokens."""
        told: list[PhaseProgress] = []
        progress = ChunkProgress("base", 10, told.append)
        progress.finished(2)
        for done, share, tokens in ((0, 0.0, 0), (1, 0.5, 20), (4, 1.0, 50)):
            progress.within(PhaseProgress("", done, 4, "completions", tokens, share))
        progress.within(PhaseProgress("verifying", 0, 4, "completions", 0, 0.0))
        progress.finished(6)
        progress.within(PhaseProgress("", 2, 4, "completions", 20, 0.25))
        progress.within(PhaseProgress("", 4, 4, "completions", 30, 1.0))
        progress.finished(10)
        assert [(p.done, p.tokens, p.share) for p in told] == [
            (2, 0, 0.2), (2, 0, 0.2), (3, 20, 0.4), (6, 50, 0.6), (6, 50, 0.6), (8, 70, 0.7), (10, 80, 1.0),
            (10, 80, 1.0),
        ]  # fmt: skip
        assert {(p.phase, p.total) for p in told} == {("base", 10)}

    def test_nothing_to_do_is_not_told(self) -> None:
        told: list[PhaseProgress] = []
        DecodingProgress(0, 10, told.append)
        SequenceProgress([], told.append)
        with announced("verifying", 0, "completions", told.append):
            pass
        assert told == []

    def test_a_phase_within_a_phase_keeps_its_name(self) -> None:
        told: list[PhaseProgress] = []
        outer = in_phase("base test", told.append)
        DecodingProgress(1, 10, outer)
        with announced("verifying", 1, "completions", outer):
            pass
        assert [p.phase for p in told] == ["base test", "verifying", "verifying"]


def completion(tokens: int) -> Completion:
    return Completion([1], [1] * tokens, [0.0] * tokens, True, "")
