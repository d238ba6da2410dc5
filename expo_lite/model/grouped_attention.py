"""Attention for decoding with grouped queries, without copies of the KV cache.

With an attention mask, transformers' sdpa repeats every key and value head for each query head that shares it:
on a 7B model seven copies of each layer's cache are written and read for every token. With one new token per
row there is nothing causal to mask, so the queries that share a head can stand where a sequence's tokens stand.

Without a mask it leaves grouped queries to torch, whatever the card. Below compute capability 8.0, and in float32, no
fast kernel of torch's (2.13) takes them: all scores would exist at once, about 15 bytes each. There heads are repeated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from expo_lite.model.prefix_tree import on_trees

GROUPED_DECODING = "grouped_decoding"
REPEATED_HEADS = "grouped_decoding_repeated_heads"
TAKE_TREES = {GROUPED_DECODING, REPEATED_HEADS}
ADD_MASKS = {"eager", "sdpa", *TAKE_TREES}  # implementations that add a mask to their scores


@on_trees
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


@on_trees
def repeated_heads(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As `grouped_decoding`, but for many queries without a mask every head gets its own keys and values."""
    heads, queries, shared = query.shape[1], query.shape[2], key.shape[1]
    plain = attention_mask is None and kwargs.get("position_bias") is None and key.shape[2] == queries
    if queries == 1 or heads == shared or not plain:
        return grouped_decoding(module, query, key, value, attention_mask, scaling, is_causal=is_causal, **kwargs)
    key, value = repeat_kv(key, heads // shared), repeat_kv(value, heads // shared)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def decode_grouped(model: PreTrainedModel, repeats_kv: bool = False) -> None:
    """Let a model that uses sdpa decode this way; `repeats_kv` says that flash attention does not run where it is."""
    if model.config._attn_implementation != "sdpa":
        return
    for name, function in ((GROUPED_DECODING, grouped_decoding), (REPEATED_HEADS, repeated_heads)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(REPEATED_HEADS if repeats_kv else GROUPED_DECODING)
