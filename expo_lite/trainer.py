"""One step of ExPO, top to bottom as in the paper, and nothing else."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expo_lite.advantages import group_advantages
from expo_lite.batching import MicroBatch, cut_micro_batches
from expo_lite.config import Config
from expo_lite.errors import DivergedError
from expo_lite.explain import Explainer
from expo_lite.metrics import PhaseClock, UpdateMeter, step_metrics
from expo_lite.objectives import explanation_loss, kl_loss, policy_loss
from expo_lite.policy import Policy
from expo_lite.prompts import Prompts
from expo_lite.sampler import Sampler, SampleRequest
from expo_lite.sequences import training_sequences
from expo_lite.types import Completion, Explanation, Problem, Rollout, RolloutGroup, TrainingSequence, Verdict
from expo_lite.verifier import Verifier, reward


@dataclass(frozen=True)
class StepReport:
    """What a step did: its metrics, and the samples behind them."""

    step: int
    metrics: dict[str, float]
    groups: list[RolloutGroup]
    explanations: list[list[Explanation]]
    trained_on: list[list[Explanation]]


class Trainer:
    """Turns problems into one update of the policy's adapter. `read` is the only way device values reach Python."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        sampler: Sampler,
        prompts: Prompts,
        verifier: Verifier,
        explainer: Explainer,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        read: Callable[[Tensor], Any] = torch.Tensor.tolist,
    ) -> None:
        self.config = config
        self.policy = policy
        self.sampler = sampler
        self.prompts = prompts
        self.verifier = verifier
        self.explainer = explainer
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.read = read

    def step(self, number: int, problems: Sequence[Problem]) -> StepReport:
        """One step on P problems: rollouts, rewards, explanations of what failed, one update."""
        clock = PhaseClock()
        with clock("generate"):
            attempts = self.attempt(number, problems)
        with clock("verify"):
            groups = self.judge(problems, attempts)
        with clock("explain"):
            every = self.config.explanation.gate == "every"
            gated = [group.problem for group in groups if every or group.kind == "failed"]
            explanations = self.explainer.explain(gated, number)
            trained_on = [self.explainer.select(written, number) for written in explanations]
        with clock("train"):
            sequences = training_sequences(groups, trained_on, self.config)
            update = self.update(sequences)
        metrics = step_metrics(groups, explanations, trained_on, update, clock)
        return StepReport(number, metrics, groups, explanations, trained_on)

    def attempt(self, step: int, problems: Sequence[Problem]) -> list[list[Completion]]:
        """G completions of each problem's task prompt."""
        rollout = self.config.rollout
        requests = [
            SampleRequest(self.prompts.task(p), rollout.group_size, (self.config.seed, "rollout", step, p.id))
            for p in problems
        ]
        return self.sampler.sample(requests, rollout.max_new_tokens, rollout.temperature)

    def judge(self, problems: Sequence[Problem], attempts: Sequence[Sequence[Completion]]) -> list[RolloutGroup]:
        """Verdicts, rewards and group advantages; an attempt that was cut off is wrong whatever it says."""
        pairs = [(p.answer, c.text) for p, of_p in zip(problems, attempts, strict=True) for c in of_p]
        verdicts = iter(self.verifier.judge(pairs))
        rollouts = [[judged(completion, next(verdicts)) for completion in of_problem] for of_problem in attempts]
        rewards = [[rollout.reward for rollout in of_problem] for of_problem in rollouts]
        advantages = group_advantages(rewards, self.config.objective.advantage_scale).tolist()
        return [RolloutGroup(*group) for group in zip(problems, rollouts, advantages, strict=True)]

    def update(self, sequences: Sequence[TrainingSequence]) -> dict[str, float]:
        """Loss, backward and optimizer step over micro-batches; without sequences nothing is updated."""
        meter = UpdateMeter(learning_rate=float(self.scheduler.get_last_lr()[0]))
        if sequences:
            budget = self.config.memory.micro_batch_tokens
            batches = cut_micro_batches(sequences, budget, self.policy.pad_id, self.policy.device)
            old = self.old_logprobs(batches)
            reference = self.reference_logprobs(batches)
            for _ in range(self.config.objective.updates_per_batch):
                for batch, old_logprobs, reference_logprobs in zip(batches, old, reference, strict=True):
                    self.loss(batch, old_logprobs, reference_logprobs, meter).backward()
                meter.gradient_norm = self.apply_gradients()
                meter.updates += 1
        self.advance_schedule()
        return meter.metrics(self.read)

    def advance_schedule(self) -> None:
        """The learning rate follows the step, whether it updated or not; torch warns if the first one did not."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step")
            self.scheduler.step()

    def loss(
        self, batch: MicroBatch, old_logprobs: Tensor | None, reference_logprobs: Tensor | None, meter: UpdateMeter
    ) -> Tensor:
        """The micro-batch's share of the step's loss."""
        logprobs, entropy = self.logprobs(batch)
        if old_logprobs is None:
            old_logprobs = logprobs.detach()  # one update per batch: the ratio is exactly 1
        epsilon = self.config.objective.clip_epsilon
        loss = policy_loss(logprobs, old_logprobs, batch.advantages, batch.policy_weights, epsilon)
        loss = loss + explanation_loss(logprobs, batch.explanation_weights)
        if reference_logprobs is not None:
            loss = loss + self.config.kl.coef * kl_loss(logprobs, reference_logprobs, batch.policy_weights)
        meter.add(batch, logprobs.detach(), entropy, reference_logprobs)
        return loss

    def logprobs(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies (N,): rollout tokens at the sampling temperature, explanations at 1."""
        temperature = torch.where(batch.is_policy, self.config.rollout.temperature, 1.0)
        chunk = self.config.memory.logprob_chunk
        return self.policy.completion_logprobs(batch.input_ids, batch.positions, batch.targets, temperature, chunk)

    @torch.no_grad()
    def old_logprobs(self, batches: Sequence[MicroBatch]) -> list[Tensor] | list[None]:
        """With several updates per batch, the log-probabilities before the first; else not needed."""
        if self.config.objective.updates_per_batch == 1:
            return [None] * len(batches)
        return [self.logprobs(batch)[0] for batch in batches]

    @torch.no_grad()
    def reference_logprobs(self, batches: Sequence[MicroBatch]) -> list[Tensor] | list[None]:
        """Log-probabilities with the adapter off, if the KL penalty asks for them."""
        if self.config.kl.coef == 0:
            return [None] * len(batches)
        with self.policy.reference():
            return [self.logprobs(batch)[0] for batch in batches]

    def apply_gradients(self) -> float:
        """Clip, step, and forget the gradients; returns their norm before clipping.

        Raises DivergedError, leaving the adapter as it was, if the norm is not finite.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.policy.trainable, self.config.optimizer.max_grad_norm)
        value = float(self.read(norm))
        if not math.isfinite(value):
            raise DivergedError(
                f"The gradient norm is {value}: training has diverged. The last checkpoint is sound; "
                "resume from it with a lower optimizer.learning_rate."
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value


def judged(completion: Completion, verdict: Verdict) -> Rollout:
    """A rollout with its reward; one that was cut off is wrong whatever it says."""
    if not completion.finished and verdict is Verdict.CORRECT:
        verdict = Verdict.WRONG
    return Rollout(completion, verdict, reward(verdict))
