"""Attention for decoding with grouped queries, without copies of the KV cache.

With an attention mask, transformers' sdpa repeats every key and value head for each query head that shares it:
on a 7B model seven copies of each layer's cache are written and read for every token. With one new token per
row there is nothing causal to mask, so the queries that share a head can stand where a sequence's tokens stand.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED_DECODING = "grouped_decoding"


def grouped_decoding(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Queries (B, heads, 1, width) on keys and values (B, KV heads, T, width); more than one query goes to sdpa.

    Returns (B, 1, heads, width), as transformers wants it.
    """
    rows, heads, queries, width = query.shape
    shared = key.shape[1]
    if queries > 1 or heads == shared or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    folded = query.reshape(rows, shared, heads // shared, width)
    out = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attention_mask, scale=scaling)
    return out.reshape(rows, 1, heads, width), None


def decode_grouped(model: PreTrainedModel) -> None:
    """Let a model that uses sdpa decode this way; training, with many queries and no mask, is unchanged."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(GROUPED_DECODING, grouped_decoding)
        AttentionMaskInterface.register(GROUPED_DECODING, sdpa_mask)
        model.set_attn_implementation(GROUPED_DECODING)
