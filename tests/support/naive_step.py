"""The loss of a step from the formulas, written out naively: one sequence at a time, all logits, every group."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from expo_lite.config.settings import Config
from expo_lite.core.records import Completion, Explanation, Problem, Rollout, RolloutGroup, Verdict
from expo_lite.model.policy import Policy
from expo_lite.training.advantages import group_advantages

REWARDS = [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]]
"""A mixed, a failed, a solved and another mixed group."""


def completion(rng: random.Random, policy: Policy, prompt: list[int], finished: bool = True) -> Completion:
    """A few random tokens, and the end token if finished."""
    ids = [rng.randrange(5, 29) for _ in range(rng.randint(1, 15))]
    ids += [policy.tokenizer.eos_token_id] if finished else []
    return Completion(prompt, ids, [-1.0] * len(ids), finished, "")


def random_step(policy: Policy, seed: int) -> tuple[list[RolloutGroup], list[list[Explanation]]]:
    """Groups of every kind with ragged lengths; two explanations of the failed problem, one of another."""
    rng = random.Random(seed)
    groups = []
    for rewards, advantages in zip(REWARDS, group_advantages(REWARDS).tolist(), strict=True):
        prompt = [rng.randrange(5, 29) for _ in range(rng.randint(2, 12))]
        rollouts = [
            Rollout(completion(rng, policy, prompt), Verdict.CORRECT if r else Verdict.WRONG, r) for r in rewards
        ]
        groups.append(RolloutGroup(Problem(f"p{len(groups)}", "", ""), rollouts, advantages))
    explanations = []
    for group, count in zip(groups, (0, 2, 1, 0), strict=True):
        prompt = group.rollouts[0].completion.prompt_ids
        of_problem = [completion(rng, policy, prompt) for _ in range(count)]
        explanations.append([Explanation(group.problem, prompt, c, Verdict.CORRECT) for c in of_problem])
    return groups, explanations


def logprobs_of(policy: Policy, prompt: list[int], ids: list[int], temperature: float = 1.0) -> Tensor:
    """(|o|,) log-probabilities of one completion, from all logits of transformers' own forward."""
    logits = policy.causal_lm(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits / temperature, dim=1)[range(len(ids)), ids]


def naive_loss(
    policy: Policy, config: Config, groups: list[RolloutGroup], explanations: list[list[Explanation]]
) -> Tensor:
    """The step's loss from the formulas, at ratio 1, over every rollout."""
    terms = []
    for group in groups:
        for rollout, advantage in zip(group.rollouts, group.advantages, strict=True):
            c = rollout.completion
            logprobs = logprobs_of(policy, c.prompt_ids, c.completion_ids, config.rollout.temperature)
            terms.append(-advantage * (logprobs - logprobs.detach()).exp())
    if config.objective.loss == "grpo":
        loss = torch.stack([term.mean() for term in terms]).mean()
    elif config.objective.loss == "dapo":
        loss = torch.cat(terms).mean()
    else:
        loss = torch.cat(terms).sum() / (len(terms) * config.rollout.max_new_tokens)
    by_prompt = [
        torch.stack(
            [-logprobs_of(policy, e.unhinted_ids, e.completion.completion_ids).mean() for e in of_prompt]
        ).mean()
        for of_prompt in explanations
        if of_prompt
    ]
    return loss + config.explanation.weight * torch.stack(by_prompt).mean() if by_prompt else loss


def naive_gradient(
    policy: Policy, config: Config, groups: list[RolloutGroup], explanations: list[list[Explanation]]
) -> Tensor:
    gradients = torch.autograd.grad(naive_loss(policy, config, groups, explanations), policy.trainable)
    return torch.cat([gradient.flatten() for gradient in gradients])
