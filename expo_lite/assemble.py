"""config -> everything a run needs, wired together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from expo_lite.config import Config, OptimizerConfig
from expo_lite.evaluation import Evaluator
from expo_lite.explain import Explainer
from expo_lite.policy import Policy, load_policy
from expo_lite.problems import ProblemSet, load_problems
from expo_lite.prompts import Prompts
from expo_lite.sampler import Sampler
from expo_lite.trainer import Trainer
from expo_lite.verifier import Verifier


@dataclass(frozen=True)
class Assembly:
    """The parts of a run that share one set of weights. Use it as a context: it ends the verifier's workers."""

    policy: Policy
    problems: ProblemSet
    sampler: Sampler
    prompts: Prompts
    verifier: Verifier
    evaluator: Evaluator
    trainer: Trainer

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self.verifier.close()


def assemble(config: Config) -> Assembly:
    """Load data and model and wire them. Raises ConfigError or DataError before anything slow where possible."""
    if config.threads:
        torch.set_num_threads(config.threads)
    problems = load_problems(config.data)
    policy = load_policy(config.policy, config.seed)
    rollout = config.rollout
    sampler = Sampler(policy, config.memory.rollouts_alive, policy.wants_dense(rollout.dense_weights))
    prompts = Prompts(policy.tokenizer, config.prompt)
    verifier = Verifier(config.verifier.timeout_seconds, config.verifier.workers)
    explainer = Explainer(config, sampler, prompts, verifier)
    evaluator = Evaluator(
        sampler, prompts, verifier, config.seed, config.evaluation.samples, rollout.max_new_tokens, rollout.temperature
    )
    optimizer, scheduler = build_optimizer(policy, config.optimizer, config.steps)
    trainer = Trainer(config, policy, sampler, prompts, verifier, explainer, optimizer, scheduler)
    return Assembly(policy, problems, sampler, prompts, verifier, evaluator, trainer)


def build_optimizer(
    policy: Policy, config: OptimizerConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW on the adapter, with a learning rate that is a function of the step alone."""
    optimizer = torch.optim.AdamW(
        policy.trainable, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(config, step, steps))


def rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """What the learning rate of a step (from 0) is multiplied by: linear warm-up, then the schedule, down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    return 1 - share if config.schedule == "linear" else 1.0
