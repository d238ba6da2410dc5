"""One step of ExPO, top to bottom as in the paper, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from expo_lite.config.settings import Config
from expo_lite.core.progress import OnProgress, announced, in_phase, silent
from expo_lite.core.records import Completion, Explanation, Problem, Rollout, RolloutGroup
from expo_lite.grading.judge import Judge, attempt_verdict
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.advantages import group_advantages
from expo_lite.training.dpo_pairs import preference_pairs
from expo_lite.training.explainer import Explainer
from expo_lite.training.metrics import PhaseClock, step_metrics
from expo_lite.training.sequences import training_sequences
from expo_lite.training.updater import Updater


@dataclass(frozen=True)
class StepReport:
    """What a step did: its metrics, and the samples behind them."""

    step: int
    metrics: dict[str, float]
    groups: list[RolloutGroup]
    explanations: list[list[Explanation]]
    trained_on: list[list[Explanation]]


class Trainer:
    """Turns problems into one update of the policy's adapter."""

    def __init__(
        self,
        config: Config,
        sampler: Sampler,
        prompts: Prompts,
        judge: Judge,
        explainer: Explainer,
        updater: Updater,
    ) -> None:
        self.config = config
        self.sampler = sampler
        self.prompts = prompts
        self.judge = judge
        self.explainer = explainer
        self.updater = updater

    def step(self, number: int, problems: Sequence[Problem], on_progress: OnProgress = silent) -> StepReport:
        """One step on P problems: rollouts, rewards, explanations of what failed, one update."""
        clock, units = PhaseClock(), self.updater.units
        halvings_before = units.halvings  # in the dry pass, in earlier steps and in validation
        offline = self.config.objective.name == "dpo" and self.config.dpo.pairs == "offline"
        draw = 0 if offline else number  # names the random numbers: offline, a problem's pair never changes
        with self.updater.policy.reference() if offline else nullcontext():
            with clock("generate"):
                attempts = self.attempt(draw, problems, in_phase("rollouts", on_progress))
            total = len(problems) * self.config.rollout.group_size
            with clock("verify"), announced("verifying", total, "completions", on_progress):
                groups = self.judged(problems, attempts)
            with clock("explain"):
                gated = [group for group in groups if self.needs_explanation(group)]
                explanations = self.explainer.explain(
                    [group.problem for group in gated], draw, in_phase("explanations", on_progress)
                )
                trained_on = [self.explainer.select(written, draw) for written in explanations]
        with clock("train"):
            if self.config.objective.name == "dpo":
                pairs = preference_pairs(gated, trained_on, self.config, draw)
                update = self.updater.update_on_pairs(pairs, on_progress)
            else:
                sequences = training_sequences(groups, trained_on, self.config, number)
                update = self.updater.update(sequences, on_progress)
        metrics = step_metrics(groups, explanations, trained_on, update, clock)
        metrics["out_of_memory_halvings"] = units.halvings - halvings_before
        return StepReport(number, metrics, groups, explanations, trained_on)

    def needs_explanation(self, group: RolloutGroup) -> bool:
        """DPO needs a wrong rollout to prefer an explanation to; GRPO goes by `explanation.gate`."""
        if self.config.objective.name == "dpo":
            return group.kind != "solved"
        return group.kind == "failed" or self.config.explanation.gate == "every"

    def attempt(self, draw: int, problems: Sequence[Problem], on_progress: OnProgress) -> list[list[Completion]]:
        """G completions of each problem's task prompt."""
        rollout = self.config.rollout
        requests = [
            SampleRequest(self.prompts.task(p), rollout.group_size, (self.config.seed, "rollout", draw, p.id))
            for p in problems
        ]
        return self.sampler.sample(requests, rollout.max_new_tokens, rollout.temperature, on_progress=on_progress)

    def judged(self, problems: Sequence[Problem], attempts: Sequence[Sequence[Completion]]) -> list[RolloutGroup]:
        """Verdicts, rewards and group advantages."""
        judged = self.judge.judge_completions(problems, attempts)
        rollouts = [
            [Rollout(c, attempt_verdict(c, said.verdict), said.reward) for c, said in zip(*of_problem, strict=True)]
            for of_problem in zip(attempts, judged, strict=True)
        ]
        rewards = [[rollout.reward for rollout in of_problem] for of_problem in rollouts]
        advantages = group_advantages(rewards, self.config.objective.advantage_scale).tolist()
        return [RolloutGroup(*group) for group in zip(problems, rollouts, advantages, strict=True)]
