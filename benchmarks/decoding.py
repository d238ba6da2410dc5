"""Decoding with grouped queries beside transformers' own sdpa, in one run: `python benchmarks/decoding.py`."""

from __future__ import annotations

import time

import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from expo_lite.model.grouped_attention import GROUPED_DECODING, decode_grouped

ROWS, PROMPT, TOKENS = 16, 600, 20


def small_model(heads: int, kv_heads: int) -> Qwen2ForCausalLM:
    """Four layers as wide as those of Qwen2.5-0.5B, with random weights in float32."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=512,
        hidden_size=64 * heads,
        intermediate_size=2048,
        num_hidden_layers=4,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        attn_implementation="sdpa",
    )
    return Qwen2ForCausalLM(config).eval()


@torch.no_grad()
def decode(model: Qwen2ForCausalLM, attention: str) -> tuple[torch.Tensor, float]:
    """Logits of TOKENS tokens after a prompt that is shorter in one row, and the seconds they took."""
    model.set_attn_implementation(attention)
    ids = torch.randint(0, 512, (ROWS, PROMPT), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[3, :50] = 0
    cache = DynamicCache(config=model.config)
    model(input_ids=ids, attention_mask=mask, past_key_values=cache, logits_to_keep=1)
    logits, start = [], time.perf_counter()
    for t in range(TOKENS):
        mask = torch.cat([mask, mask.new_ones(ROWS, 1)], dim=1)
        positions = (mask.cumsum(1) - 1)[:, -1:]
        output = model(input_ids=ids[:, t : t + 1], attention_mask=mask, position_ids=positions, past_key_values=cache)
        logits.append(output.logits)
    return torch.cat(logits, dim=1), time.perf_counter() - start


if __name__ == "__main__":
    print("| query heads per key head | sdpa s | grouped s | ratio | difference of logits |\n|---|---|---|---|---|")
    for heads, kv_heads in ((14, 14), (14, 7), (14, 2)):
        model = small_model(heads, kv_heads)
        decode_grouped(model)  # registers it
        theirs, before = decode(model, "sdpa")
        ours, after = decode(model, GROUPED_DECODING)
        difference = (ours - theirs).abs().max()
        print(
            f"| {heads // kv_heads} | {before:.2f} | {after:.2f} | {before / after:.1f} | {difference:.0e} |",
            flush=True,
        )
