"""The gradient of a step, through a real small model, against the formulas written out naively.

The oracle takes one sequence at a time, with all logits and every group. So whatever the trainer does to be fast
(micro-batches, padding, order, chunks, leaving groups out) has to leave the gradient as it is.
"""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch
from support.naive_step import logprobs_of, naive_gradient, random_step
from support.tiny_models import GradientRecorder, adapter_vector, tiny_config, tiny_policy, tiny_trainer
from torch import Tensor

from expo_lite.config.settings import Config
from expo_lite.core.records import TrainingSequence
from expo_lite.model.policy import Policy
from expo_lite.training.losses import rollout_token_weight
from expo_lite.training.micro_batches import collate, cut_micro_batches
from expo_lite.training.sequences import rollout_sequences, training_sequences

LOSSES = ("grpo", "dr_grpo", "dapo")
G = 4  # as in naive_step.REWARDS


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def config_of(loss: str, **settings: object) -> Config:
    return tiny_config(objective__loss=loss, explanation__weight=0.3, rollout__group_size=G, **settings)


def gradient_of(policy: Policy, config: Config, sequences: list[TrainingSequence]) -> Tensor:
    """What `Updater.update` hands to the optimizer."""
    recorder = GradientRecorder(policy)
    tiny_trainer(config, policy, optimizer=recorder).updater.update(sequences)
    (gradient,) = recorder.gradients
    return gradient


def assert_same(gradient: Tensor, expected: Tensor) -> None:
    assert expected.norm() > 1e-3
    assert (gradient - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("micro_batch_tokens", [1, 50, 10_000])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_equals_the_formulas_for_any_micro_batch_cut(
    policy: Policy, loss: str, micro_batch_tokens: int
) -> None:
    config = config_of(loss, memory__micro_batch_tokens=micro_batch_tokens)
    groups, explanations = random_step(policy, seed=0)
    sequences = training_sequences(groups, explanations, config)
    cuts = list(cut_micro_batches(sequences, lambda: micro_batch_tokens))
    assert len(cuts) == {1: len(sequences), 10_000: 1}.get(micro_batch_tokens, len(cuts))
    assert_same(gradient_of(policy, config, sequences), naive_gradient(policy, config, groups, explanations))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", LOSSES)
def test_order_and_chunks_change_nothing(policy: Policy, loss: str, seed: int) -> None:
    config = config_of(loss, memory__micro_batch_tokens=30 + 20 * seed, memory__logprob_chunk=1 + 6 * seed)
    groups, explanations = random_step(policy, seed)
    sequences = training_sequences(groups, explanations, config)
    random.Random(seed).shuffle(sequences)
    assert_same(gradient_of(policy, config, sequences), naive_gradient(policy, config, groups, explanations))


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_changes_nothing(policy: Policy, loss: str) -> None:
    """A long row of weight 0 in the same micro-batch pads all others far beyond their own width."""
    config = config_of(loss)
    groups, explanations = random_step(policy, seed=1)
    long = TrainingSequence([6] * 40, [7] * 80)
    sequences = [*training_sequences(groups, explanations, config), long]
    assert_same(gradient_of(policy, config, sequences), naive_gradient(policy, config, groups, explanations))


@pytest.mark.parametrize("loss", LOSSES)
def test_dead_groups_are_left_out_and_change_nothing(policy: Policy, loss: str) -> None:
    """The failed and the solved group are not trained on; kept in with advantage 0, the gradient is the same."""
    config = config_of(loss)
    groups, _ = random_step(policy, seed=2)
    sequences = rollout_sequences(groups, config)
    alive = [r.completion for group in (groups[0], groups[3]) for r in group.rollouts]
    assert [s.completion_ids for s in sequences] == [c.completion_ids for c in alive]

    all_completions = [r.completion for group in groups for r in group.rollouts]
    tokens = sum(len(c.completion_ids) for c in all_completions)
    dead = []
    for c in (r.completion for group in (groups[1], groups[2]) for r in group.rollouts):
        weight = rollout_token_weight(loss, len(c.completion_ids), 4 * G, tokens, config.rollout.max_new_tokens)
        dead.append(TrainingSequence(c.prompt_ids, c.completion_ids, 0.0, weight))
    expected = naive_gradient(policy, config, groups, [])
    assert_same(gradient_of(policy, config, sequences), expected)
    assert_same(gradient_of(policy, config, sequences + dead), expected)


@pytest.mark.parametrize("pad", ["<pad>", "<|end|>", "7"])
def test_pad_token_does_not_matter(pad: str) -> None:
    """Also where it is the end token, or one that completions hold."""
    policy, config = tiny_policy(), config_of("grpo")
    policy.tokenizer.pad_token = pad
    groups, explanations = random_step(policy, seed=3)
    sequences = training_sequences(groups, explanations, config)
    assert_same(gradient_of(policy, config, sequences), naive_gradient(policy, config, groups, explanations))


def test_the_end_token_is_trained_even_if_it_pads() -> None:
    """A completion that is nothing but the end token still has a gradient."""
    policy = tiny_policy()
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    end = policy.tokenizer.eos_token_id
    only_end = TrainingSequence([5, 6, 7], [end], likelihood_weight=1.0)
    long = TrainingSequence([5] * 10, [6] * 10)
    batch = collate([only_end, long], end, policy.device)
    assert batch.targets.tolist() == [end] + [6] * 10

    gradient = gradient_of(policy, config_of("grpo"), [only_end, long])
    loss = -logprobs_of(policy, [5, 6, 7], [end]).sum()
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, policy.trainable)])
    assert_same(gradient, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_explanation_term_is_in_the_gradient(policy: Policy, loss: str) -> None:
    """The gradient with explanations less that without is that of - w times their mean log-probability."""
    config = config_of(loss)
    groups, explanations = random_step(policy, seed=4)
    both = gradient_of(policy, config, training_sequences(groups, explanations, config))
    without = gradient_of(policy, config, training_sequences(groups, [], config))
    means = [
        torch.stack([logprobs_of(policy, e.unhinted_ids, e.completion.completion_ids).mean() for e in of_prompt]).mean()
        for of_prompt in explanations
        if of_prompt
    ]
    gradients = torch.autograd.grad(-0.3 * torch.stack(means).mean(), policy.trainable)
    assert_same(both - without, torch.cat([g.flatten() for g in gradients]))


@pytest.mark.parametrize("loss", LOSSES)
def test_kl_penalty_covers_every_rollout(policy: Policy, loss: str) -> None:
    """With kl.coef > 0 dead groups are trained on too; the reference is the model without its adapter."""
    config = config_of(loss, kl__coef=0.5)
    groups, _ = random_step(policy, seed=5)
    sequences = training_sequences(groups, [], config)
    assert len(sequences) == 4 * G

    penalty: list[Tensor] = []
    for c in (r.completion for group in groups for r in group.rollouts):
        logprobs = logprobs_of(policy, c.prompt_ids, c.completion_ids, config.rollout.temperature)
        with torch.no_grad(), policy.reference():
            reference = logprobs_of(policy, c.prompt_ids, c.completion_ids, config.rollout.temperature)
        difference = reference - logprobs
        penalty.append(difference.exp() - difference - 1)
    if loss == "grpo":
        mean = torch.stack([p.mean() for p in penalty]).mean()
    else:
        tokens = torch.cat(penalty)
        mean = tokens.mean() if loss == "dapo" else tokens.sum() / (4 * G * config.rollout.max_new_tokens)
    penalty_gradient = torch.cat([g.flatten() for g in torch.autograd.grad(mean, policy.trainable)])
    assert penalty_gradient.norm() > 1e-3
    expected = naive_gradient(policy, config, groups, []) + 0.5 * penalty_gradient
    assert_same(gradient_of(policy, config, sequences), expected)


def test_second_update_uses_the_log_probabilities_from_before_the_first() -> None:
    """Its ratio is not 1: the gradient is that of rho A (clipped), at the weights after the first update."""
    policy = tiny_policy()
    config = config_of("dapo", objective__updates_per_batch=2)
    groups, _ = random_step(policy, seed=6)
    pairs = [(r.completion, a) for group in groups for r, a in zip(group.rollouts, group.advantages, strict=True)]

    def logprobs() -> list[Tensor]:
        return [logprobs_of(policy, c.prompt_ids, c.completion_ids, config.rollout.temperature) for c, _ in pairs]

    before, start = [x.detach() for x in logprobs()], adapter_vector(policy)
    recorder = GradientRecorder(policy, learning_rate=0.3)
    tiny_trainer(config, policy, optimizer=recorder).updater.update(training_sequences(groups, [], config))
    first, second = recorder.gradients

    torch.nn.utils.vector_to_parameters(start - 0.3 * first, policy.trainable)
    ratios = [(now - old).exp() for now, old in zip(logprobs(), before, strict=True)]
    surrogate = [
        torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a) for ratio, (_, a) in zip(ratios, pairs, strict=True)
    ]
    gradients = torch.autograd.grad(-torch.cat(surrogate).mean(), policy.trainable)
    expected = torch.cat([g.flatten() for g in gradients])
    assert ((torch.cat(ratios) - 1).abs() > 0.2).any()  # some tokens are clipped
    at_ratio_1 = naive_gradient(policy, config, groups, [])
    assert (expected - at_ratio_1).norm() > 0.01 * expected.norm()
    assert (second - expected).norm() < 1e-3 * expected.norm()


def test_micro_batches_stay_within_the_token_budget(policy: Policy) -> None:
    config = config_of("grpo")
    sequences = training_sequences(*random_step(policy, seed=7), config)
    for budget, trees in product((40, 90, 200), (False, True)):
        batches = list(cut_micro_batches(sequences, lambda: budget, trees))  # noqa: B023 - used within the turn
        assert all(len(rows) * max(row.length for row in rows) <= budget for rows in batches)
        assert sorted(map(id, sequences)) == sorted(id(s) for rows in batches for s in rows)
