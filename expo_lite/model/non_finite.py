"""Numbers that are not finite: either training has diverged, or the base cannot be computed in this type at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from expo_lite.core.errors import ConfigError, DivergedError, ExpoLiteError
from expo_lite.core.records import Completion, TrainingSequence
from expo_lite.model.policy import Policy

CHUNK = 64  # tokens of logits at once


class NotFiniteError(Exception):
    """The model's next token after `token_ids` has no finite log-probability; whether the row asked for the adapter."""

    def __init__(self, token_ids: list[int], adapter: bool = True) -> None:
        super().__init__(token_ids)
        self.token_ids, self.adapter = token_ids, adapter


def require_finite(
    rows: Iterable[Completion | TrainingSequence], logprobs: Iterable[Sequence[float]], adapters: Iterable[bool]
) -> None:
    """Raises NotFiniteError for the first token whose log-probability is not finite, with what stands before it."""
    for row, values, adapter in zip(rows, logprobs, adapters, strict=False):
        for t, value in enumerate(values):
            if not math.isfinite(value):
                raise NotFiniteError(row.prompt_ids + row.completion_ids[:t], adapter)


def diverged(what: str) -> DivergedError:
    """The error where training is to blame; `what` was found."""
    return DivergedError(
        f"{what}: training has diverged. Start again, in another --run, with a lower optimizer.learning_rate."
    )


def why_not_finite(policy: Policy, error: NotFiniteError, read: Callable[[Tensor], Any]) -> ExpoLiteError:
    """The error to raise where the model gave no finite numbers for these tokens: the base's fault, or training's.

    Runs the base alone, once, on that row; where the adapter was off, training cannot be to blame.
    """
    trained = error.adapter and policy.model.get_model_status().enabled is not False
    finite = base_is_finite(policy, error.token_ids, read)
    if finite and trained:
        return diverged("The model no longer gives finite logits")
    model, dtype = policy.causal_lm.name_or_path or "the base", str(policy.head.weight.dtype).removeprefix("torch.")
    if finite:
        return ConfigError(
            f"policy.dtype: {model}, without any training, gives no finite numbers in {dtype} where several rows are "
            "computed together, though it does for one. Set policy.dtype to float32, or choose another policy.model."
        )
    if dtype == "float16":
        return ConfigError(
            f"policy.dtype: {model} gives no finite numbers in float16, before any training: its activations are "
            "larger than this type holds. Set policy.dtype to float32 (slower, and activations take twice the memory), "
            "choose another or a smaller policy.model, or take a GPU with bfloat16 (compute capability 8.0 or higher)."
        )
    return ConfigError(
        f"policy.model: {model} gives no finite numbers in {dtype}, before any training: its weights may be damaged. "
        "Download it again, or choose another."
    )


@torch.no_grad()
def base_is_finite(policy: Policy, token_ids: Sequence[int], read: Callable[[Tensor], Any]) -> bool:
    """Whether the base alone gives finite log-probabilities after each of these tokens."""
    ids = torch.tensor([list(token_ids)], device=policy.device)
    positions = torch.arange(ids.shape[1], device=policy.device)
    following = ids[0].roll(-1)  # any token will do after the last one
    with policy.reference():
        logprobs, _ = policy.completion_logprobs(ids, positions, following, torch.ones_like(positions).float(), CHUNK)
    return bool(read(logprobs.isfinite().all()))
