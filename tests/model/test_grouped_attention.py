"""Decoding with grouped queries: the same numbers as transformers' own attention, without copies of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tiny_models import nf4_policy, save_base
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache

from expo_lite.model.grouped_attention import GROUPED_DECODING
from expo_lite.model.policy import Policy


@torch.no_grad()
def decoded(policy: Policy, attention: str, padded: bool) -> torch.Tensor:
    """Logits of three tokens decoded after a prompt, of which one row may be shorter."""
    policy.causal_lm.set_attn_implementation(attention)
    policy.model.eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 30, (3, 12), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[1, :4] = 0
    cache = DynamicCache(config=policy.causal_lm.config)
    policy.causal_lm(input_ids=ids[:, :9], attention_mask=mask[:, :9], past_key_values=cache)
    logits = []
    for t in range(9, 12):
        positions = (mask[:, : t + 1].cumsum(1) - 1)[:, -1:]
        output = policy.causal_lm(
            input_ids=ids[:, t : t + 1],
            attention_mask=mask[:, : t + 1],
            position_ids=positions,
            past_key_values=cache,
        )
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_as_transformers_does_it(tmp_path: Path, architecture: str, padded: bool, kv_heads: int) -> None:
    policy = nf4_policy(save_base(tmp_path, architecture, num_key_value_heads=kv_heads))
    assert policy.causal_lm.config._attn_implementation == GROUPED_DECODING
    ours = decoded(policy, GROUPED_DECODING, padded)
    torch.testing.assert_close(ours, decoded(policy, "sdpa", padded), atol=2e-5, rtol=1e-5)


class LargestKey(TorchFunctionMode):
    """Records the most key heads that attention was called with."""

    heads = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.heads = max(self.heads, args[1].shape[1])
        return func(*args, **(kwargs or {}))


def test_the_cache_is_not_repeated_for_every_query_head(tmp_path: Path) -> None:
    policy = nf4_policy(save_base(tmp_path, num_key_value_heads=1))
    policy.causal_lm.set_attn_implementation(GROUPED_DECODING)
    ids = torch.randint(5, 30, (2, 6))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    with torch.no_grad():
        cache = DynamicCache(config=policy.causal_lm.config)
        policy.causal_lm(input_ids=ids[:, :5], attention_mask=mask[:, :5], past_key_values=cache)
        with LargestKey() as seen:
            policy.causal_lm(input_ids=ids[:, 5:], attention_mask=mask, past_key_values=cache)
    assert seen.heads == 1
