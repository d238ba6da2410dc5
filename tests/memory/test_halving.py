"""The device runs out of memory in every phase of a real run, and the run goes on as if it had not.

The run is the shipped base on problems of which it solves some: failed and mixed groups, self-explanations, likeliest
selection, old log-probabilities, a reference and validation all occur. The errors are of the type that torch raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from expo_lite.config.read import read_request
from expo_lite.config.settings import Config
from expo_lite.core.errors import MemoryBudgetError
from expo_lite.core.records import TrainingSequence
from expo_lite.grading.evaluator import Evaluation
from expo_lite.memory.halving import in_halves, until_it_fits
from expo_lite.problems import draw_problems
from expo_lite.runs.assemble import Assembly, assemble, settle
from expo_lite.training.metrics import UpdateMeter
from expo_lite.training.step import StepReport

STEPS, VALIDATE_AFTER = 5, 3
SETTINGS = {
    "rollout.prompts-per-step": 4, "rollout.group-size": 4, "rollout.temperature": 1.3, "data.levels": "3=1,4=1",
    "explanation.samples": 4, "explanation.selection": "likeliest", "objective.updates-per-batch": 2, "kl.coef": 0.05,
    "memory.micro-batch-tokens": 256, "data.validation-problems": 1, "evaluation.samples": 2, "seed": 2,
}  # fmt: skip
MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB."


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError(MESSAGE)


@dataclass
class Forward:
    """One pass through the model, seen from its last layer."""

    phase: str  # rollout, explanation, evaluation, selection, old_logprobs, reference_logprobs or training
    number: int  # of the pass within the phase's present piece of work
    rows: int
    tokens: int  # of a row


@dataclass
class Spy:
    """Sees every pass through a run's model, and can make one fail."""

    fails: Callable[[Forward], bool] = lambda forward: False
    backward: bool = False  # fail in the backward pass of that forward
    phase: str = ""
    number: int = 0
    seen: list[Forward] = field(default_factory=list)
    fired: list[int] = field(default_factory=list)  # where in `seen`

    def watch(self, parts: Assembly) -> None:
        """Follow what the parts of a run are doing."""
        sampler, updater, explainer = parts.sampler, parts.trainer.updater, parts.trainer.explainer
        sampler.sample = self.entering(sampler.sample, lambda requests, *_: str(requests[0].stream[1]))  # type: ignore[method-assign]
        updater.with_logprobs = self.entering(updater.with_logprobs, lambda _, name, *__: name)  # type: ignore[method-assign]
        updater.accumulate_gradients = self.entering(updater.accumulate_gradients, lambda _: "training")  # type: ignore[method-assign]
        explainer.select = self.entering(explainer.select, lambda *_: "selection")  # type: ignore[method-assign]
        layers: Any = parts.policy.causal_lm.get_decoder().layers
        layers[-1].register_forward_pre_hook(self.look)  # by then the cache has the first layers' states

    def entering(self, work: Callable[..., Any], phase: Callable[..., str]) -> Callable[..., Any]:
        """`work`, with its phase noted while it is under way."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            if not args[0]:  # nothing to sample or to train on
                return work(*args, **kwargs)
            self.phase, self.number = phase(*args), 0
            try:
                return work(*args, **kwargs)
            finally:
                self.phase = ""

        return noted

    def look(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note a pass, and fail where that is wanted."""
        rows, tokens = inputs[0].shape[:2]
        self.number += 1
        forward = Forward(self.phase, self.number, rows, tokens)
        self.seen.append(forward)
        if not self.fails(forward):
            return
        self.fired.append(len(self.seen))
        if self.backward:
            inputs[0].register_hook(out_of_memory)  # type: ignore[no-untyped-call]
        else:
            out_of_memory()

    def later(self, *phases: str) -> list[Forward]:
        """The passes of some phases after the last failure."""
        return [f for f in self.seen[self.fired[-1] :] if f.phase in phases]


@dataclass
class Run:
    """What a run sampled and computed."""

    reports: list[StepReport]
    evaluations: list[Evaluation]
    gradients: list[Tensor]
    rollouts_alive: int
    micro_batch_tokens: int

    @property
    def halvings(self) -> list[float]:
        """By step."""
        return [report.metrics["out_of_memory_halvings"] for report in self.reports]

    @property
    def token_ids(self) -> list[list[list[int]]]:
        """By step, of every rollout and explanation, and of the explanations trained on."""
        return [
            [r.completion.completion_ids for group in report.groups for r in group.rollouts]
            + [e.completion.completion_ids for of in [*report.explanations, *report.trained_on] for e in of]
            for report in self.reports
        ]


def config() -> Config:
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    return read_request(["--preset", "tiny", *flags]).config


def run(spy: Spy, settings: Config | None = None) -> Run:
    """Five steps, with validation after the third and at the end."""
    settings = settings or config()
    with assemble(settle(settings)) as parts:
        gradients: list[Tensor] = []
        updater, policy = parts.trainer.updater, parts.policy
        apply_gradients = updater.apply_gradients

        def record_and_apply(sequences: Sequence[TrainingSequence]) -> float:
            gradients.append(torch.cat([p.grad.flatten().clone() for p in policy.trainable if p.grad is not None]))
            return apply_gradients(sequences)

        updater.apply_gradients = record_and_apply  # type: ignore[method-assign]
        spy.watch(parts)
        problems = draw_problems(parts.problems.train, settings.data.levels, settings.seed)
        reports, evaluations = [], []
        for number in range(1, STEPS + 1):
            reports.append(parts.trainer.step(number, list(islice(problems, settings.rollout.prompts_per_step))))
            if number in (VALIDATE_AFTER, STEPS):
                evaluations.append(parts.evaluator.evaluate(parts.problems.validation))
        units = updater.units
        return Run(reports, evaluations, gradients, units.rollouts_alive, units.micro_batch_tokens)


@pytest.fixture(scope="module")
def undisturbed() -> tuple[Run, Spy]:
    spy = Spy()
    return run(spy), spy


def assert_same(disturbed: Run, undisturbed: Run) -> None:
    """Tokens to the bit, gradients up to rounding."""
    assert disturbed.token_ids == undisturbed.token_ids
    assert disturbed.evaluations == undisturbed.evaluations
    assert len(disturbed.gradients) == len(undisturbed.gradients)
    for ours, theirs in zip(disturbed.gradients, undisturbed.gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_the_undisturbed_run_has_all_phases(undisturbed: tuple[Run, Spy]) -> None:
    result, spy = undisturbed
    assert {forward.phase for forward in spy.seen} == {
        "rollout", "explanation", "evaluation", "selection", "old_logprobs", "reference_logprobs", "training",
    }  # fmt: skip
    totals = {name: sum(r.metrics[name] for r in result.reports) for name in ("failed_groups", "mixed_groups")}
    assert all(total >= 4 for total in totals.values()), totals
    assert sum(r.metrics["rescued_groups"] for r in result.reports) >= 2
    assert len(result.gradients) == 2 * STEPS
    assert result.halvings == [0] * STEPS


def once(phase: str, occurrence: int, number: int = 1, rows: int = 2) -> Callable[[Forward], bool]:
    """True for the `number`-th pass of the `occurrence`-th piece of work of a phase, and then never again."""
    pieces = 0
    done = False

    def fails(forward: Forward) -> bool:
        nonlocal pieces, done
        if done or forward.phase != phase or forward.number != number or forward.rows < rows:
            return False
        pieces += 1
        done = pieces == occurrence
        return done

    return fails


SAMPLING: dict[str, dict[str, Any]] = {  # arguments of `once`
    "prefill of rollouts": {"phase": "rollout", "occurrence": 2},
    "a rollout's middle token": {"phase": "rollout", "occurrence": 2, "number": 20},
    "prefill of explanations": {"phase": "explanation", "occurrence": 2, "rows": 1},
    "an explanation's middle token": {"phase": "explanation", "occurrence": 2, "number": 20},
    "prefill of validation": {"phase": "evaluation", "occurrence": 1, "rows": 1},  # the prompts may be one tree
    "a token of validation": {"phase": "evaluation", "occurrence": 1, "number": 15},
}
PASSES: dict[str, dict[str, Any]] = {
    "training forward": {"phase": "training", "occurrence": 4, "rows": 1},
    "training backward": {"phase": "training", "occurrence": 4, "rows": 1},
    "old log-probabilities": {"phase": "old_logprobs", "occurrence": 2, "rows": 1},
    "reference log-probabilities": {"phase": "reference_logprobs", "occurrence": 2, "rows": 1},
    "likeliest selection": {"phase": "selection", "occurrence": 2, "rows": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("place", SAMPLING)
def test_out_of_memory_while_sampling(place: str, undisturbed: tuple[Run, Spy]) -> None:
    spy = Spy(once(**SAMPLING[place]))
    disturbed = run(spy)
    assert len(spy.fired) == 1
    assert_same(disturbed, undisturbed[0])
    assert disturbed.rollouts_alive == undisturbed[0].rollouts_alive // 2 == 8
    assert sum(disturbed.halvings) == (0 if "validation" in place else 1)  # those of a step, in that step only
    rows = [f.rows for f in spy.later("rollout", "explanation", "evaluation") if f.tokens == 1]
    assert max(rows) == 8  # where 16 were decoded together before


@pytest.mark.slow
@pytest.mark.parametrize("place", PASSES)
def test_out_of_memory_while_training(place: str, undisturbed: tuple[Run, Spy]) -> None:
    spy = Spy(once(**PASSES[place]), backward=place == "training backward")
    disturbed = run(spy)
    assert len(spy.fired) == 1
    assert_same(disturbed, undisturbed[0])
    assert (disturbed.micro_batch_tokens, sum(disturbed.halvings)) == (128, 1)
    assert all(f.rows * f.tokens <= disturbed.micro_batch_tokens for f in spy.later("training"))


@pytest.mark.slow
def test_out_of_memory_after_the_backward_pass(undisturbed: tuple[Run, Spy], monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics of a micro-batch are small, but so may be what is left: its gradients must not count twice."""
    sums_of, calls = UpdateMeter.sums_of, []

    def failing(*args: Any) -> dict[str, Tensor]:
        calls.append(args)
        if len(calls) == 5:
            out_of_memory()
        return sums_of(*args)

    monkeypatch.setattr(UpdateMeter, "sums_of", staticmethod(failing))
    assert_same(run(Spy()), undisturbed[0])
    assert len(calls) > 5


@pytest.mark.slow
def test_a_device_that_is_too_small_throughout(undisturbed: tuple[Run, Spy]) -> None:
    """Every phase fails above a size; each failure is paid for once, and the size that fits is found."""

    def fails(forward: Forward) -> bool:
        decoding = forward.phase in ("rollout", "explanation", "evaluation")
        return forward.rows > 5 if decoding else forward.rows * forward.tokens > 100

    spy = Spy(fails)
    disturbed = run(spy)
    assert_same(disturbed, undisturbed[0])
    assert (disturbed.rollouts_alive, disturbed.micro_batch_tokens) == (4, 128)
    assert sum(disturbed.halvings) == len(spy.fired) <= 4


@contextmanager
def counted(sizes: list[int], limit: int) -> Iterator[Callable[..., list[int]]]:
    """Work that fits up to `limit` items, and the sizes it was tried with."""

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > limit:
            out_of_memory()
        return list(items)

    yield work


@pytest.mark.parametrize(
    ("limit", "tried", "halved"), [(7, [7], 0), (3, [7, 3, 3, 1], 1), (1, [7, 3, 1, 1, 1, 1, 1, 1, 1], 2)]
)
def test_what_does_not_fit_is_not_tried_again(limit: int, tried: list[int], halved: int) -> None:
    sizes: list[int] = []
    halvings: list[None] = []
    with counted(sizes, limit) as work:
        done = list(in_halves(range(7), work, lambda: halvings.append(None), "setting"))
    assert [item for part in done for item in part] == list(range(7))
    assert (sizes, len(halvings)) == (tried, halved)


def test_a_single_item_is_tried_twice_and_halves_nothing() -> None:
    tries: list[int] = []

    def work(items: range) -> int:
        tries.append(len(items))
        if len(tries) == 1:
            out_of_memory()
        return len(items)

    def halve() -> None:
        raise AssertionError("there is nothing to halve")

    assert list(in_halves(range(1), work, halve, "setting")) == [1]


def test_libraries_that_run_out_by_themselves() -> None:
    failed: list[int] = []

    def work(items: range) -> int:
        if not failed:
            failed.append(len(items))
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return len(items)

    assert list(in_halves(range(4), work, lambda: None, "setting")) == [2, 2]


def test_other_errors_are_not_for_halving() -> None:
    def work(items: range) -> int:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(in_halves(range(4), work, lambda: None, "setting"))


class TestUntilItFits:
    """Work that keeps what it has done, such as completions that are whole."""

    @staticmethod
    def tried(items: int, most: int, fits: Callable[[int, int], bool]) -> tuple[list[int], int]:
        """Sizes that were tried on so many items, one after the other done, and how often it was halved."""
        sizes: list[int] = []
        halvings: list[None] = []
        left = [items]

        def work(size: int) -> None:
            sizes.append(size)
            while left[0]:
                if not fits(size, left[0]):
                    out_of_memory()
                left[0] -= 1

        until_it_fits(work, lambda: left[0], most, lambda: halvings.append(None), "setting")
        return sizes, len(halvings)

    def test_no_more_is_tried_than_there_is(self) -> None:
        """Of 3 items where 96 may be alive: 3, then 1, and not 48, 24, 12 and 6, which are the same 3."""
        assert self.tried(3, 96, lambda size, left: size == 1) == ([3, 1], 1)

    def test_what_is_done_stays_done(self) -> None:
        assert self.tried(8, 8, lambda size, left: size <= 2 or left > 5) == ([8, 4, 2], 2)

    def test_a_second_attempt_for_each_that_does_not_fit_alone_at_first(self) -> None:
        """Other programs' use of the device comes and goes: twice here, with progress between."""
        failed: list[int] = []

        def fits(size: int, left: int) -> bool:
            fail = left in (5, 2) and left not in failed
            failed.extend([left] if fail else [])
            return not fail

        assert self.tried(6, 1, fits) == ([1, 1, 1], 0)

    def test_one_that_never_fits(self) -> None:
        with pytest.raises(
            MemoryBudgetError, match=r"^setting: out of GPU memory with a single sequence \(CUDA out of"
        ):
            self.tried(4, 4, lambda size, left: left > 2)
