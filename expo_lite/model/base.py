"""Loading the frozen base as it has to be: quantised, without dropout, and trainable after it has generated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from expo_lite.core.errors import ConfigError
from expo_lite.model.grouped_attention import decode_grouped

# settings with which a model's logits are not its head applied to its last hidden states (Gemma, Cohere, Granite ...)
LOGIT_CHANGES = (
    "final_logit_softcapping",
    "logits_soft_cap",
    "logit_scale",
    "logits_scaling",
    "logits_mup_width_multiplier",
    "lm_head_multiplier",
    "output_multiplier",
)


def load_base(
    source: str, quantization: str, dtype: torch.dtype, device: torch.device, repeats_kv: bool = False
) -> PreTrainedModel:
    """The model of a folder or Hub id, through transformers; for `repeats_kv` see `decode_grouped`.

    Raises OSError or ValueError where it cannot be loaded.
    """
    nf4 = None
    if quantization == "nf4":
        nf4 = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, quantization_config=nf4, device_map={"": device}, output_loading_info=True
    )
    base, info = loaded
    if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers
        raise ValueError(f"its files lack {len(missing)} of its weights, {missing[0]} among them")
    decode_grouped(base, repeats_kv)
    return base


def refuse_replacement(base: PreTrainedModel, quantization: str, dtype: torch.dtype) -> None:
    """Raises ConfigError for a model that is not quantised as asked, or computes in another type."""
    if (quantization == "nf4") != bool(quantised_linears(base)):
        raise ConfigError(
            f"policy.quantization: this backend cannot load the model so here (got {quantization}); set policy.backend "
            "to transformers, or choose the other quantization"
        )
    found = base.get_output_embeddings().weight.dtype  # type: ignore[union-attr]
    if found != dtype:
        names = [str(name).removeprefix("torch.") for name in (found, dtype)]
        raise ConfigError(
            f"policy.dtype: this backend loads the model in {names[0]} here (got {names[1]}); choose that, or set "
            "policy.backend to transformers"
        )


def freeze(base: PreTrainedModel) -> None:
    """Make the base a fixed function: no gradients, no dropout, no weights that are repacked on the way."""
    base.requires_grad_(False)
    without_dropout(base)
    avoid_in_place_repacking(base)


def without_dropout(model: torch.nn.Module) -> None:
    """Training has to see the probabilities that were sampled from."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0  # type: ignore[assignment]


def avoid_in_place_repacking(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking weights on the first forward without gradients.

    On CPUs with AVX512-BF16 that repacking happens in place, after which training silently loses gradients.
    """
    for module in quantised_linears(model):
        module.support_avx512bf16_for_cpu = False


def quantised_linears(model: torch.nn.Module) -> list[Linear4bit]:
    """Every 4-bit linear layer of a model."""
    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def refuse_changed_logits(config: Any, model: str) -> None:
    """Raises ConfigError for a model that scales or caps its logits: training would see other probabilities."""
    text = config.get_text_config()
    changed = [f"{name}={getattr(text, name)}" for name in LOGIT_CHANGES if getattr(text, name, None) not in (None, 1)]
    if changed:
        raise ConfigError(
            f"policy.model: {model!r} changes its logits after the head ({', '.join(changed)}), which is not "
            "supported; choose a model that does not, such as one of the Qwen or Llama families."
        )


def refuse_blank(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ValueError for a tokenizer without words, as transformers makes some where tokenizer.json is missing."""
    if not set(tokenizer("1", add_special_tokens=False)["input_ids"]) - {tokenizer.unk_token_id}:  # type: ignore[arg-type]
        raise ValueError("its tokenizer reads nothing; tokenizer.json may be missing")


@contextmanager
def no_bars_for(source: str) -> Iterator[None]:
    """Within it, loading a local folder shows no progress bar; a download, which takes minutes, does."""
    hide = Path(source).is_dir() and transformers_logging.is_progress_bar_enabled()
    if hide:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            transformers_logging.enable_progress_bar()
