"""Which token comes next: logits and a random number with a name -> a token and its log-probability."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def choose(logits: Tensor, temperature: float, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """One token per row of logits (B, V), and its log-probability under softmax(logits / temperature).

    Inverse transform sampling: the first token whose cumulated probability exceeds the row's uniform
    number (B,). Without uniforms, the likeliest token.
    """
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    if uniforms is None:
        chosen = logprobs.argmax(-1)
    else:
        cumulated = logprobs.exp().double().cumsum(-1)
        threshold = uniforms[:, None] * cumulated[:, -1:]  # the sum is 1 but for rounding
        chosen = torch.searchsorted(cumulated, threshold, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
    return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)


def uniform_stream(name: tuple[object, ...], count: int) -> np.ndarray:
    """The first `count` uniform numbers in [0, 1) of the stream called `name`."""
    digest = hashlib.blake2b(repr(name).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64))).random(count)
