"""examples/minimal_step.py is the real step: the same training sequences, loss and gradient, from the same texts."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support.naive_step import random_step
from support.tiny_models import CUT, GradientRecorder, ScriptedSampler, tiny_config, tiny_policy, tiny_trainer, written
from torch import Tensor

from examples import minimal_step
from expo_lite.config.settings import Config
from expo_lite.core.records import Completion, Problem, TrainingSequence
from expo_lite.model.policy import Policy
from expo_lite.model.prompts import Prompts
from expo_lite.problems import tiny_world
from expo_lite.training.sequences import training_sequences
from expo_lite.training.updater import Updater

FAILED, HOPELESS, MIXED, SOLVED = (tiny_world.problem(o) for o in ((23, 45), (11, 22, 33), (10, 20, 30), (31, 12)))
PROBLEMS = [FAILED, HOPELESS, MIXED, SOLVED]
G, K = 4, 6


def boxed(answer: object) -> str:
    return f"The answer is $\\boxed{{{answer}}}$."


def right(problem: Problem) -> str:
    return boxed(problem.answer)


SCRIPT = {
    ("rollout", FAILED.id): [boxed(1), right(FAILED) + CUT, "23+45=68\n", boxed(69)],
    ("rollout", HOPELESS.id): [boxed(2)] * G,
    ("rollout", MIXED.id): ["10+20=30\n30+30=60\n" + right(MIXED), boxed(2), "10+20=30\n", right(MIXED)],
    ("rollout", SOLVED.id): [right(SOLVED), "31+12=43\n" + right(SOLVED), right(SOLVED), right(SOLVED)],
    ("explanation", FAILED.id): [
        right(FAILED),
        "1+1=2\n" + right(FAILED),
        right(FAILED) + CUT,
        "As we were told, the answer is 68.\n" + right(FAILED),
        "23+45=68\n" + right(FAILED),
        "2+2=4\n" + right(FAILED),
    ],
    ("explanation", HOPELESS.id): [boxed(3), right(HOPELESS) + CUT, "11+22=33\n", boxed(1), boxed(6), boxed(7)],
}


class Watched:
    """An updater whose loss and training sequences are kept."""

    def __init__(self, updater: Updater) -> None:
        self.loss, self.sequences = 0.0, list[TrainingSequence]()
        of_batch = updater.loss

        def watched(batch: Any, logprobs: Tensor) -> Tensor:
            loss = of_batch(batch, logprobs)
            self.loss += float(loss.detach())
            self.sequences += batch.sequences
            return loss

        updater.loss = watched  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    """The minimal step's constants as settings of the real one; a small norm, so that gradients are clipped."""
    for name, value in {"G": G, "K": K, "MAX_GRAD_NORM": 0.05, "EXPLANATION_WEIGHT": 0.3}.items():
        monkeypatch.setattr(minimal_step, name, value)
    return tiny_config(
        seed=minimal_step.SEED,
        prompt=minimal_step.PROMPTS.model_dump(),
        rollout__group_size=G,
        rollout__temperature=minimal_step.TEMPERATURE,
        explanation__samples=K,
        explanation__weight=0.3,
        optimizer__max_grad_norm=0.05,
    )


def script_the_minimal(monkeypatch: pytest.MonkeyPatch, policy: Policy) -> None:
    """Its `sample` gives the script's texts."""
    prompts = Prompts(policy.tokenizer, minimal_step.PROMPTS)
    texts = {
        tuple(prompts.task(p) if kind == "rollout" else prompts.hinted(p)): SCRIPT[kind, p.id]
        for kind in ("rollout", "explanation")
        for p in PROBLEMS
        if (kind, p.id) in SCRIPT
    }

    def sample(policy: Policy, prompt_ids: list[int], count: int) -> list[Completion]:
        found = texts[tuple(prompt_ids)]
        assert len(found) == count
        return [written(policy.tokenizer, prompt_ids, text) for text in found]

    monkeypatch.setattr(minimal_step, "sample", sample)


def script_and_watch(monkeypatch: pytest.MonkeyPatch, policy: Policy) -> dict[str, Any]:
    """The minimal step on the script; what its loss is made of comes into the dictionary."""
    script_the_minimal(monkeypatch, policy)
    seen: dict[str, Any] = {}
    own_loss = minimal_step.expo_loss

    def watched(policy: Policy, groups: Any, advantages: Tensor, explanations: Any) -> Tensor:
        seen.update(groups=groups, advantages=advantages, explanations=explanations)
        return own_loss(policy, groups, advantages, explanations)

    monkeypatch.setattr(minimal_step, "expo_loss", watched)
    return seen


def assert_same(gradient: Tensor, expected: Tensor) -> None:
    assert expected.norm() > 1e-3
    assert (gradient - expected).norm() < 1e-5 * expected.norm()


def trained_on(seen: dict[str, Any]) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Prompt, completion and advantage of the minimal step's training sequences, sorted."""
    rollouts = [rollout for group in seen["groups"] for rollout in group]
    rows = list(zip(rollouts, seen["advantages"].flatten().tolist(), strict=True))
    rows = [row for row in rows if row[1] != 0] + [(e, 0.0) for e in seen["explanations"]]
    return sorted((tuple(c.prompt_ids), tuple(c.completion_ids), round(a, 5)) for c, a in rows)


@pytest.mark.parametrize("number", range(1, 7))
def test_the_whole_step_is_the_real_one(
    policy: Policy, config: Config, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """From the same texts: rewards, advantages, the explanation chosen (by the step's number), loss, gradient."""
    recorder, own_recorder = GradientRecorder(policy), GradientRecorder(policy)
    trainer = tiny_trainer(config, policy, ScriptedSampler(policy, SCRIPT), recorder)
    real = Watched(trainer.updater)
    metrics = trainer.step(number, PROBLEMS).metrics

    seen = script_and_watch(monkeypatch, policy)
    report = minimal_step.step(policy, own_recorder, PROBLEMS, number)

    sequences = sorted((tuple(s.prompt_ids), tuple(s.completion_ids), round(s.advantage, 5)) for s in real.sequences)
    assert trained_on(seen) == sequences
    assert len(sequences) == G + 1  # the mixed group, and one explanation
    assert metrics["explanations_accepted"] == 3  # of which both have chosen the same
    assert report.loss == pytest.approx(real.loss, rel=1e-5)
    assert (report.share_right, report.failed_groups) == (metrics["reward_mean"], metrics["failed_groups"])
    assert report.explanations_kept == metrics["explanations_trained"] == 1
    assert metrics["gradient_norm"] > minimal_step.MAX_GRAD_NORM
    (gradient,), (expected,) = own_recorder.gradients, recorder.gradients
    assert_same(gradient, expected)


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradient_on_random_sequences(policy: Policy, config: Config, seed: int) -> None:
    """Ragged lengths, groups of every kind, and two prompts with an explanation."""
    groups, explanations = random_step(policy, seed)
    chosen = [of_prompt[:1] for of_prompt in explanations]
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"max_grad_norm": 1e6})})
    recorder = GradientRecorder(policy)
    updater = tiny_trainer(config, policy, optimizer=recorder).updater
    real = Watched(updater)
    updater.update(training_sequences(groups, chosen, config))

    loss = minimal_step.expo_loss(
        policy,
        [[rollout.completion for rollout in group.rollouts] for group in groups],
        torch.tensor([group.advantages for group in groups]),
        [e.completion for of_prompt in chosen for e in of_prompt],
    )
    assert sum(map(len, chosen)) == 2
    assert loss.item() == pytest.approx(real.loss, rel=1e-5)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, policy.trainable)])
    assert_same(gradient, recorder.gradients[0])


def test_nothing_to_learn_is_no_update(policy: Policy, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    script_the_minimal(monkeypatch, policy)
    recorder = GradientRecorder(policy)
    report = minimal_step.step(policy, recorder, [HOPELESS, SOLVED], 1)
    assert (report.failed_groups, report.explanations_kept, report.loss) == (1, 0, 0.0)
    assert recorder.gradients == []


def test_sampling_follows_the_distribution(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """First and second tokens of many completions against their exact probabilities: the cache works."""
    monkeypatch.setattr(minimal_step, "MAX_NEW_TOKENS", 2)
    torch.manual_seed(0)
    prompt = [random.Random(0).randrange(5, 29) for _ in range(6)]
    completions = minimal_step.sample(policy, prompt, 4000)
    firsts = Counter(c.completion_ids[0] for c in completions if len(c.completion_ids) == 2)
    for before in ([], [firsts.most_common(1)[0][0]]):
        follow = [c.completion_ids[len(before)] for c in completions if c.completion_ids[: len(before)] == before]
        with torch.no_grad():
            logits = policy.causal_lm(input_ids=torch.tensor([prompt + before])).logits[0, -1]
        expected = torch.softmax(logits / minimal_step.TEMPERATURE, dim=0)
        shares = torch.bincount(torch.tensor(follow), minlength=len(expected)) / len(follow)
        assert (shares - expected).abs().sum() < (len(expected) / len(follow)) ** 0.5  # 0.8 of it is expected at most


def test_a_completion_ends_with_its_end_token(policy: Policy) -> None:
    end = policy.tokenizer.eos_token_id
    ended, cut = (minimal_step.until_its_end(policy, [5], row) for row in ([6, 7, end, 8], [6, 7, 8]))
    assert (ended.completion_ids, ended.finished) == ([6, 7, end], True)
    assert (cut.completion_ids, cut.finished) == ([6, 7, 8], False)


def test_it_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"P": 2, "G": 2, "K": 2}.items():
        monkeypatch.setattr(minimal_step, name, value)
    minimal_step.main(steps=1)
    line = r"step  1: +\d+% right, \d of 2 groups failed, \d explanations kept, loss \d\.\d{4}\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_it_is_short_and_explains_itself() -> None:
    """Under 200 lines, as many as the README says; of the room that it explains it takes two filters alone."""
    source = Path(minimal_step.__file__).read_text(encoding="utf-8")
    lines = len(source.splitlines())
    assert lines < 200
    assert f"one file of {lines} lines" in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"expo_lite\.training\.(\w+)", source) == ["derivation", "hint_leaks"]
