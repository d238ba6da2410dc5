"""Log-probabilities of given tokens, taken in chunks: [tokens, vocabulary] never exists at once.

The backward pass computes each chunk's logits again instead of keeping them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IMPOSSIBLE = -1e4
"""Nats; exp is 0 long before, in float32."""


def token_logprobs(
    hidden: Tensor, head: torch.nn.Linear, targets: Tensor, temperature: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution, of softmax(logits / temperature).

    Shapes: hidden (N, H), head.weight (V, H), targets (N,), temperature (N,); both results (N,) float32.
    Gradients flow to `hidden` only (the head is frozen); the entropy carries none.
    """
    return _TokenLogprobs.apply(hidden, head.weight, head.bias, targets, temperature, chunk)  # type: ignore[no-any-return]


class _TokenLogprobs(torch.autograd.Function):
    """log p(y) = z_y - logsumexp(z) with z = (W h + b) / temperature; d log p / dz = onehot(y) - softmax(z)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, bias, targets, temperature)
        ctx.chunk = chunk
        logprobs = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(logprobs)
        for part in _slices(len(targets), chunk):
            log_p = _chunk_log_softmax(hidden[part], weight, bias, temperature[part])
            logprobs[part] = log_p.gather(1, targets[part, None]).squeeze(1)
            p = log_p.exp()
            entropy[part] = -p.mul_(log_p.clamp_(min=IMPOSSIBLE)).sum(1)  # 0 log 0 is 0, and not 0 times infinity
            del log_p, p  # before the next chunk's logits are made
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, temperature = ctx.saved_tensors
        hidden_gradient = torch.empty_like(hidden)
        for part in _slices(len(targets), ctx.chunk):
            scale = (gradients[0][part] / temperature[part])[:, None]
            d_logits = _chunk_log_softmax(hidden[part], weight, bias, temperature[part]).exp_().mul_(-scale)
            d_logits.scatter_add_(1, targets[part, None], scale)
            hidden_gradient[part] = (d_logits.to(weight.dtype) @ weight).to(hidden.dtype)
            del d_logits
        return hidden_gradient, None, None, None, None, None


def _slices(length: int, chunk: int) -> list[slice]:
    return [slice(start, start + chunk) for start in range(0, length, chunk)]


def _chunk_log_softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: Tensor) -> Tensor:
    logits = torch.nn.functional.linear(hidden.to(weight.dtype), weight, bias).float()
    return torch.log_softmax(logits.div_(temperature[:, None]), dim=1)
