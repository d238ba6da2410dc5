"""examples/minimal_step.py is what a reader learns the step from: it must be the step."""

from __future__ import annotations

import pytest
import torch
from support.naive_step import naive_gradient, naive_loss, random_step
from support.tiny_models import GradientRecorder, tiny_config, tiny_policy, tiny_trainer

from examples import minimal_step
from examples.minimal_step import Group, Text
from expo_lite.training.advantages import group_advantages
from expo_lite.training.sequences import training_sequences

WEIGHT = 0.3


def as_groups(seed: int, policy: object) -> tuple[list[Group], tuple]:
    """Groups of every kind, as the example has them and as the project has them. One explanation a failed problem."""
    groups, explanations = random_step(policy, seed)  # type: ignore[arg-type]
    explanations = [
        of_problem[:1] if group.kind == "failed" else [] for group, of_problem in zip(groups, explanations, strict=True)
    ]

    def text(completion: object) -> Text:
        return Text(completion.completion_ids, "", True)  # type: ignore[attr-defined]

    same = [
        Group(g.problem, g.rollouts[0].completion.prompt_ids, [text(r.completion) for r in g.rollouts],
              [r.reward for r in g.rollouts], [text(e.completion) for e in of_problem])
        for g, of_problem in zip(groups, explanations, strict=True)
    ]  # fmt: skip
    return same, (groups, explanations)


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_are_the_steps(seed: int) -> None:
    policy = tiny_policy()
    same, (groups, explanations) = as_groups(seed, policy)
    config = tiny_config(explanation__weight=WEIGHT, rollout__group_size=4)
    value = minimal_step.loss(policy, same, WEIGHT, config.rollout.temperature)
    gradient = torch.cat([each.flatten() for each in torch.autograd.grad(value, policy.trainable)])
    recorder = GradientRecorder(policy)
    updater = tiny_trainer(config, policy, optimizer=recorder).updater
    updater.update(training_sequences(groups, explanations, config))
    (real,) = recorder.gradients
    assert real.norm() > 1e-3 and (gradient - real).norm() < 1e-5 * real.norm()
    # and both are those of the formulas
    assert value.item() == pytest.approx(naive_loss(policy, config, groups, explanations).item(), rel=1e-5, abs=1e-7)
    assert (gradient - naive_gradient(policy, config, groups, explanations)).norm() < 1e-5 * real.norm()


@pytest.mark.parametrize("rewards", [[1.0, 0, 0, 0], [0.0] * 4, [1.0] * 8, [0, 1.0, 1.0]])
def test_advantages_are_the_steps(rewards: list[float]) -> None:
    assert minimal_step.advantages(rewards) == pytest.approx(group_advantages([rewards])[0].tolist(), abs=1e-12)


def test_it_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimal_step, "P", 2)
    minimal_step.main(1)
    assert capsys.readouterr().out.startswith("step 1: ")
