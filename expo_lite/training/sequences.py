"""What a step has gathered -> training sequences that carry their own weight in the loss."""

from __future__ import annotations

from collections.abc import Sequence

from expo_lite.config.settings import Config
from expo_lite.core.records import Explanation, RolloutGroup, TrainingSequence
from expo_lite.training.losses import explanation_token_weights, rollout_token_weight
from expo_lite.training.schedules import factor


def training_sequences(
    groups: Sequence[RolloutGroup], explanations: Sequence[Sequence[Explanation]], config: Config, step: int = 1
) -> list[TrainingSequence]:
    """Rollouts with a gradient, and the chosen explanations (by prompt) under their unhinted prompts."""
    weight = config.explanation.weight * factor(config.explanation.schedule, (step - 1) / config.steps)
    return [*rollout_sequences(groups, config), *explanation_sequences(explanations, weight)]


def rollout_sequences(groups: Sequence[RolloutGroup], config: Config) -> list[TrainingSequence]:
    """The rollouts of groups with signal; with a KL penalty those of every group.

    The denominators count all rollouts sampled in the step, so that leaving out groups without signal changes nothing;
    tokens that `objective.mask_truncated` takes out of the loss are not counted among the step's (as in TRL).
    """
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    masked = config.objective.mask_truncated
    tokens_in_step = sum(len(c.completion_ids) for c in completions if c.finished or not masked)
    sequences = []
    for group in groups:
        if not (group.has_signal or config.kl.coef > 0):
            continue
        for rollout, advantage in zip(group.rollouts, group.advantages, strict=True):
            completion = rollout.completion
            if masked and not completion.finished:
                continue
            weight = rollout_token_weight(
                config.objective.loss,
                len(completion.completion_ids),
                len(completions),
                tokens_in_step,
                config.rollout.max_new_tokens,
            )
            sequences.append(
                TrainingSequence(
                    completion.prompt_ids,
                    completion.completion_ids,
                    advantage=advantage,
                    policy_weight=weight,
                    sampler_logprobs=completion.logprobs,
                )
            )
    return sequences


def explanation_sequences(explanations: Sequence[Sequence[Explanation]], weight: float) -> list[TrainingSequence]:
    """Explanations with the answer hidden from their prompt."""
    counts = [[len(e.completion.completion_ids) for e in of_prompt] for of_prompt in explanations]
    weights = explanation_token_weights(counts, weight)
    return [
        TrainingSequence(
            e.unhinted_ids, e.completion.completion_ids, likelihood_weight=token_weight, answer_span=e.answer_span
        )
        for of_prompt, of_prompt_weights in zip(explanations, weights, strict=True)
        for e, token_weight in zip(of_prompt, of_prompt_weights, strict=True)
    ]
