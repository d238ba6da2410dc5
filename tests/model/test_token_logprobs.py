"""Chunked log-probabilities against plain ones, and the promise that all logits never exist at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from expo_lite.model.token_logprobs import token_logprobs

N, H, V = 13, 6, 17


def inputs(seed: int = 0, bias: bool = False) -> tuple[Tensor, torch.nn.Linear, Tensor, Tensor]:
    """Hidden states, a frozen head, targets and a different temperature for each token."""
    torch.manual_seed(seed)
    head = torch.nn.Linear(H, V, bias=bias).requires_grad_(False)
    hidden = (2 * torch.randn(N, H)).requires_grad_()
    return hidden, head, torch.randint(V, (N,)), torch.linspace(0.3, 2.0, N)


def plain(hidden: Tensor, head: torch.nn.Linear, targets: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """The same in float64 with all logits at once."""
    bias = 0 if head.bias is None else head.bias.double()
    log_p = torch.log_softmax((hidden @ head.weight.double().T + bias) / temperature.double()[:, None], dim=1)
    return log_p.gather(1, targets[:, None]).squeeze(1), torch.special.entr(log_p.exp()).sum(1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, N, 1000])
def test_equals_plain_log_softmax_for_any_chunk(chunk: int, bias: bool) -> None:
    hidden, head, targets, temperature = inputs(bias=bias)
    logprobs, entropy = token_logprobs(hidden, head, targets, temperature, chunk)
    expected, expected_entropy = plain(hidden.double(), head, targets, temperature)
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logprobs.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(entropy.double(), expected_entropy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, N, 1000])
def test_gradient_equals_autograd(chunk: int, bias: bool) -> None:
    """With a different upstream gradient for each token."""
    hidden, head, targets, temperature = inputs(bias=bias)
    upstream = torch.linspace(-2, 3, N)
    logprobs, _ = token_logprobs(hidden, head, targets, temperature, chunk)
    (ours,) = torch.autograd.grad(logprobs, hidden, upstream)
    exact = hidden.detach().double().requires_grad_()
    expected, _ = plain(exact, head, targets, temperature)
    (expected_gradient,) = torch.autograd.grad(expected, exact, upstream.double())
    torch.testing.assert_close(ours.double(), expected_gradient, rtol=1e-5, atol=1e-5)


def test_a_token_that_cannot_be_said_takes_no_part() -> None:
    """Entropy is - sum p log p with 0 log 0 = 0: a head may rule tokens out, and the others are as without it."""
    hidden, head, targets, temperature = inputs(bias=True)
    head.bias[-1] = -torch.inf
    targets = targets.clamp(max=V - 2)
    logprobs, entropy = token_logprobs(hidden, head, targets, temperature, 5)
    (gradient,) = torch.autograd.grad(logprobs.sum(), hidden)
    fewer = torch.nn.Linear(H, V - 1).requires_grad_(False)
    fewer.weight.copy_(head.weight[:-1])
    fewer.bias.copy_(head.bias[:-1])
    expected, expected_entropy = token_logprobs(hidden, fewer, targets, temperature, 5)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), hidden)
    torch.testing.assert_close((logprobs, entropy), (expected, expected_entropy))
    torch.testing.assert_close(gradient, expected_gradient)


def test_known_values() -> None:
    """Logits 0 and ln 3: probabilities 1/4 and 3/4; at temperature 1/2 they are 1/10 and 9/10."""
    head = torch.nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[0.0], [1.0]])
    hidden = torch.full((2, 1), 3.0).log()
    logprobs, entropy = token_logprobs(hidden, head, torch.tensor([1, 0]), torch.tensor([1.0, 0.5]), 8)
    assert logprobs.exp().tolist() == pytest.approx([0.75, 0.1])
    p = torch.tensor([[0.25, 0.75], [0.1, 0.9]])
    torch.testing.assert_close(entropy, -(p * p.log()).sum(1))


def test_entropy_carries_no_gradient() -> None:
    _, entropy = token_logprobs(*inputs(), 4)
    assert not entropy.requires_grad


def test_half_precision_hidden_states_get_a_gradient_of_their_own_type() -> None:
    hidden, head, targets, temperature = inputs()
    half = hidden.detach().bfloat16().requires_grad_()
    logprobs, _ = token_logprobs(half, head.bfloat16(), targets, temperature, 4)
    logprobs.sum().backward()
    assert logprobs.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16


class LogitRows(TorchDispatchMode):
    """Within it, `most` becomes the most rows of any computed tensor with last dimension V (not the head's weight)."""

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = head.weight.untyped_storage().data_ptr()
        self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            of_vocabulary = isinstance(tensor, Tensor) and tensor.dim() > 0 and tensor.shape[-1] == V
            if of_vocabulary and tensor.untyped_storage().data_ptr() != self.weight:
                self.most = max(self.most, tensor.numel() // V)
        return result


@pytest.mark.parametrize("chunk", [1, 3, N])
def test_no_more_logits_than_a_chunk_exist_at_once(chunk: int) -> None:
    hidden, head, targets, temperature = inputs()
    with LogitRows(head) as forward:
        logprobs, _ = token_logprobs(hidden, head, targets, temperature, chunk)
    with LogitRows(head) as backward:
        logprobs.sum().backward()
    assert forward.most == chunk
    assert backward.most == chunk


def test_logits_are_not_kept_for_the_backward_pass() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_logprobs(*inputs(), 4)
    assert kept
    assert all(tensor.shape[-1] != V for tensor in kept)
