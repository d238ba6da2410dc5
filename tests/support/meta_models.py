"""Small models of several families, made from their configurations: with random weights, or without any (meta)."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from expo_lite.config.settings import PolicyConfig
from expo_lite.model.grouped_attention import decode_grouped
from expo_lite.model.policy import Policy, add_adapter
from scripts.tiny_base.tokenizer import build_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,  # far from uniform distributions
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}
FAMILIES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {}),
    "llama": (LlamaConfig, {}),
    "gemma3": (  # sliding windows and full attention in turn
        Gemma3TextConfig,
        {
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 16,
            "final_logit_softcapping": None,
            "attn_logit_softcapping": None,
        },
    ),
    "mistral": (MistralConfig, {"sliding_window": 6}),  # sliding windows only
}


def causal_lm(family: str, dtype: torch.dtype = torch.float32, device: str = "cpu", **settings: Any) -> PreTrainedModel:
    """A model with 2 layers of 64 wide; the same weights for the same settings, none on meta."""
    make_config, own = FAMILIES[family]
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(make_config(**{**SHAPE, **own, **settings}), dtype=dtype)
    model.eval()
    decode_grouped(model)
    return model


def policy_of(model: PreTrainedModel, checkpointing: bool = False, rank: int = 4) -> Policy:
    """The model with an adapter on top, as a run has it."""
    config = PolicyConfig(quantization="none", lora_rank=rank, gradient_checkpointing=checkpointing)
    return add_adapter(model, build_tokenizer(), config, 0)


def in_4_bit(model: PreTrainedModel) -> PreTrainedModel:
    """A model on meta with its linear layers but the head in NF4, as bitsandbytes makes them while loading."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and layer is not model.get_output_embeddings():
                setattr(parent, name, linear_4bit(layer))
    model.is_loaded_in_4bit = True  # else peft takes its layers for unquantised ones
    return model


def linear_4bit(layer: torch.nn.Linear) -> Linear4bit:
    """The layer with its weight quantised twice, on meta."""
    rows, columns = layer.weight.shape
    dtype = layer.weight.dtype
    quantised = Linear4bit(
        columns, rows, bias=layer.bias is not None, compute_dtype=dtype, quant_type="nf4", device="meta"
    )
    weight = Params4bit(layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4")
    weight.module = quantised
    functional.name2qmap.setdefault("dynamic", functional.create_dynamic_map())  # else it is kept for good, on meta
    quantised.weight = weight._quantize("meta")
    quantised.bias = layer.bias
    return quantised
