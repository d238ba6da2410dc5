"""The loss terms against TRL's own code and against numbers worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

from expo_lite.training.advantages import group_advantages
from expo_lite.training.losses import (
    dpo_losses,
    explanation_loss,
    explanation_token_weights,
    kl_loss,
    policy_loss,
    rollout_token_weight,
)

EPSILON = 0.2
MAX_NEW_TOKENS = 16


def trl_loss(
    loss_type: str, beta: float, logprobs: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor
) -> Tensor:
    """`GRPOTrainer._compute_loss` on a stand-in for the trainer that returns the given log-probabilities (B, T)."""
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        loss_type=loss_type,
        beta=beta,
        epsilon_low=EPSILON,
        epsilon_high=EPSILON,
        importance_sampling_level="token",
        max_completion_length=MAX_NEW_TOKENS,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _metrics={"train": defaultdict(list)},
    )
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask, dtype=torch.long),
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    return GRPOTrainer._compute_loss(stand_in, None, inputs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_loss_and_gradient_equal_trl(loss_type: str, beta: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([1, 7, 3, 12, 5, 2])
    mask = (torch.arange(12) < lengths[:, None]).long()
    old = -3 * torch.rand(6, 12, generator=generator, dtype=torch.float64)
    logprobs = (old + 0.3 * torch.randn(6, 12, generator=generator, dtype=torch.float64)).requires_grad_()
    reference = old + 0.5 * torch.randn(6, 12, generator=generator, dtype=torch.float64)
    advantages = torch.randn(6, generator=generator, dtype=torch.float64)
    ratio = (logprobs - old).exp()[mask.bool()]
    assert (ratio < 1 - EPSILON).any() and (ratio > 1 + EPSILON).any() and ((ratio - 1).abs() < EPSILON).any()

    expected = trl_loss(loss_type, beta, logprobs, old, reference, advantages, mask)
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)

    tokens = mask.bool()
    in_step = int(mask.sum())
    of_row = [rollout_token_weight(loss_type, n, 6, in_step, MAX_NEW_TOKENS) for n in lengths.tolist()]
    weights = torch.tensor(of_row, dtype=torch.float64)[:, None].expand(6, 12)[tokens]
    flat_advantages = advantages[:, None].expand(6, 12)[tokens]
    ours = policy_loss(logprobs[tokens], old[tokens], flat_advantages, weights, EPSILON)
    ours = ours + beta * kl_loss(logprobs[tokens], reference[tokens], weights)
    (our_gradient,) = torch.autograd.grad(ours, logprobs)

    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(our_gradient, expected_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_equal_trl(scale: str) -> None:
    """TRL's scaling is inline in its rollout code; this is that formula with its own `nanstd`."""
    rewards = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    centred = rewards - rewards.nanmean(dim=1, keepdim=True)
    deviation = {"group": lambda: nanstd(rewards, dim=1)[:, None], "batch": lambda: nanstd(rewards)}
    expected = centred if scale == "none" else centred / (deviation[scale]() + 1e-4)
    np.testing.assert_allclose(group_advantages(rewards.numpy(), scale), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        # group 1: mean 1/4, squared deviations 3/4, over 3: variance 1/4
        ("group", [[0.75 / 0.5001, *[-0.25 / 0.5001] * 3], [0.0] * 4]),
        # all 8: mean 1/8, squared deviations 7/8, over 7: variance 1/8
        ("batch", [[0.75 / (0.125**0.5 + 1e-4), *[-0.25 / (0.125**0.5 + 1e-4)] * 3], [0.0] * 4]),
        ("none", [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]),
    ],
)
def test_advantages_by_hand(scale: str, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(group_advantages([[1, 0, 0, 0], [0, 0, 0, 0]], scale), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_give_exactly_zero(scale: str) -> None:
    """0.1 seven times has a mean that is not 0.1 in floating point; divided by 1e-4 the rounding would be a signal."""
    assert (group_advantages([[0.1] * 7, [0, 1, 0, 1, 0, 1, 0]], scale)[0] == 0).all()


@pytest.mark.parametrize("rewards", [[[1.0]], [1.0, 0.0], [[[1.0, 0.0]]]])
def test_advantages_need_groups_of_two(rewards: list) -> None:
    with pytest.raises(ValueError, match="G >= 2"):
        group_advantages(rewards)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.5, 2.0, -2.4, 0.0),  # good and already 1.5 times likelier: clipped at 1.2
        (0.5, 2.0, -1.0, -1.0),  # good but less likely: not clipped
        (1.5, -2.0, 3.0, 3.0),  # bad but likelier: not clipped
        (0.5, -2.0, 1.6, 0.0),  # bad and already less likely: clipped at 0.8
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    """The gradient with respect to the log-probability is - A rho, or 0 where clipped."""
    logprob = torch.tensor([ratio], dtype=torch.float64).log().requires_grad_()
    one = torch.ones(1, dtype=torch.float64)
    value = policy_loss(logprob, torch.zeros(1, dtype=torch.float64), advantage * one, one, EPSILON)
    value.backward()
    assert value.item() == pytest.approx(loss)
    assert logprob.grad.item() == pytest.approx(gradient)


def test_kl_by_hand() -> None:
    """exp(d) - d - 1 at d = ln 2, 0 and -ln 2, weighted 1, 5 and 3; its gradient is w (1 - exp(d))."""
    logprobs = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    ln2 = float(np.log(2))
    loss = kl_loss(logprobs, torch.tensor([ln2, 0.0, -ln2]).double(), torch.tensor([1.0, 5.0, 3.0]).double())
    loss.backward()
    assert loss.item() == pytest.approx((2 - ln2 - 1) + 0 + 3 * (0.5 + ln2 - 1))
    assert logprobs.grad.tolist() == pytest.approx([-1.0, 0.0, 1.5])


@pytest.mark.parametrize(
    ("loss", "expected"), [("grpo", 1 / (6 * 5)), ("dapo", 1 / 40), ("dr_grpo", 1 / (6 * MAX_NEW_TOKENS))]
)
def test_rollout_token_weight_by_hand(loss: str, expected: float) -> None:
    assert rollout_token_weight(loss, 5, 6, 40, MAX_NEW_TOKENS) == expected


def test_explanation_weights_by_hand() -> None:
    """Mean over tokens, then a prompt's explanations, then the prompts that have one."""
    weights = explanation_token_weights([[4, 2], [], [5]], 0.3)
    assert weights[1] == []
    assert weights[0] == pytest.approx([0.3 / 2 / 2 / 4, 0.3 / 2 / 2 / 2])
    assert weights[2] == pytest.approx([0.3 / 2 / 5])


@pytest.mark.parametrize("nothing", [[], [[], []]])
def test_no_explanations_at_all(nothing: list) -> None:
    assert explanation_token_weights(nothing, 0.3) == nothing


def test_explanation_loss_by_hand() -> None:
    logprobs = torch.tensor([-1.0, -4.0], requires_grad=True)
    loss = explanation_loss(logprobs, torch.tensor([0.5, 0.25]))
    loss.backward()
    assert loss.item() == 1.5
    assert logprobs.grad.tolist() == [-0.5, -0.25]


class TestExtremeTokens:
    """What exp would turn into infinity spoils neither loss nor gradients of the other tokens."""

    LOGPROBS = (-1.0, -200.0, -0.5)

    def test_kl_of_tokens_that_weigh_nothing(self) -> None:
        """An explanation's token: the reference is e^199 times as sure. The third: k3 of d = -0.5."""
        logprobs = torch.tensor(self.LOGPROBS, requires_grad=True)
        loss = kl_loss(logprobs, torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([1.0, 0.0, 1.0]))
        (gradient,) = torch.autograd.grad(loss, logprobs)
        assert loss.item() == pytest.approx(np.exp(-0.5) + 0.5 - 1, abs=1e-6)
        assert gradient.tolist() == pytest.approx([0.0, 0.0, 1 - np.exp(-0.5)], abs=1e-6)

    def test_kl_of_a_missing_reference(self) -> None:
        loss = kl_loss(torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, torch.nan]), torch.tensor([1.0, 0.0]))
        assert loss.item() == pytest.approx(np.exp(-0.5) + 0.5 - 1, abs=1e-6)

    @pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 0.0, 1.0)])
    def test_kl_gradients_stay_finite(self, weights: tuple[float, ...]) -> None:
        logprobs = torch.tensor(self.LOGPROBS, requires_grad=True)
        loss = kl_loss(logprobs, torch.full((3,), -1.0), torch.tensor(weights))
        (gradient,) = torch.autograd.grad(loss, logprobs)
        assert loss.isfinite() and gradient.isfinite().all()

    @pytest.mark.parametrize("change", [-200.0, 200.0])
    def test_the_sum_is_as_if_a_token_without_weight_were_ordinary(self, change: float) -> None:
        """All terms, as `Updater.loss` adds them up: an explanation's token has changed by e^200 either way.

        The rollout's: ratio e^0.25, beyond the clip at 1.2, so its gradient is that of the k3 at d = -0.25 alone.
        """
        logprobs = torch.tensor([-0.75, -250.0 + change], requires_grad=True)
        before, rollout = torch.tensor([-1.0, -250.0]), torch.tensor([1.0, 0.0])
        loss = policy_loss(logprobs, before, torch.tensor([1.0, 1.0]), rollout, EPSILON)
        loss = loss + kl_loss(logprobs, before, rollout) + explanation_loss(logprobs, 1e-3 * (1 - rollout))
        (gradient,) = torch.autograd.grad(loss, logprobs)
        k3 = np.exp(-0.25) + 0.25 - 1
        assert loss.item() == pytest.approx(-1.2 + k3 + 1e-3 * (250 - change), abs=1e-6)
        assert gradient.tolist() == pytest.approx([1 - np.exp(-0.25), -1e-3], abs=1e-6)

    def test_a_rollouts_token_that_cannot_be_said_again(self) -> None:
        loss = explanation_loss(torch.tensor([-1.0, -torch.inf]), torch.tensor([0.5, 0.0]))
        assert loss.item() == 0.5

    @pytest.mark.parametrize("sure", [-200.0, 200.0, -1e5, 1e5])
    def test_pairs(self, sure: float) -> None:
        """DPO's slope by the chosen is - beta sigmoid(-beta m): there is no overflow, however far the margin is."""
        chosen = torch.tensor([sure, 0.0], dtype=torch.float64, requires_grad=True)
        nothing = torch.zeros(2, dtype=torch.float64)
        losses, _ = dpo_losses(chosen, nothing, nothing, nothing, beta=1.0)
        (slopes,) = torch.autograd.grad(losses.sum(), chosen)
        assert losses.tolist() == pytest.approx([max(-sure, 0.0), np.log(2)], abs=1e-12)
        assert slopes.tolist() == pytest.approx([-float(sure < 0), -0.5], abs=1e-12)

    @pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
    @pytest.mark.parametrize("weight", [0.0, 1.0])
    def test_ratios(self, advantage: float, weight: float) -> None:
        """The second token has become e^199 times as likely since it was sampled; the first one is as before."""
        logprobs = torch.tensor([-1.0, -1.0], requires_grad=True)
        advantages, weights = torch.tensor([2.0, advantage]), torch.tensor([0.5, weight])
        loss = policy_loss(logprobs, torch.tensor([-1.0, -200.0]), advantages, weights, EPSILON)
        (gradient,) = torch.autograd.grad(loss, logprobs)
        assert loss.isfinite()
        assert gradient.tolist() == [-1.0, 0.0]
