"""One set of weights: a (4-bit) base with a LoRA adapter is sampler, policy and reference at once.

Adapter on = the policy being trained; adapter off = the reference (and the "before" model).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from expo_lite.config import PolicyConfig
from expo_lite.dense import dense_linears
from expo_lite.errors import ConfigError
from expo_lite.logprobs import token_logprobs
from expo_lite.model_files import model_source

DENSE_LIMIT_BYTES = 2**30
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


class Policy:
    """A causal language model with one LoRA adapter, its tokenizer and its device."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.causal_lm: PreTrainedModel = model.get_base_model()  # type: ignore[assignment]
        self.device = next(model.parameters()).device
        self.end_ids = end_token_ids(self.causal_lm, tokenizer)
        if tokenizer.eos_token_id is None:
            raise ConfigError("policy.model: its tokenizer has no end token (eos_token), so nothing could be finished")

    @property
    def pad_id(self) -> int:
        """The token that fills rows; what stands there is never looked at."""
        return int(self.tokenizer.pad_token_id)  # type: ignore[arg-type]

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        """The fp32 adapter matrices."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """Last hidden states (B, T, H) of right-padded `input_ids` (B, T).

        No attention mask: with causal attention, padding on the right cannot reach the tokens before it,
        and without a mask every backend can take its fastest attention kernel.
        """
        return self.causal_lm.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state

    def completion_logprobs(
        self, input_ids: Tensor, positions: Tensor, targets: Tensor, temperature: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies (N,) of `targets` (N,), predicted at the flat `positions` (N,) of (B, T)."""
        hidden = self.hidden_states(input_ids).flatten(0, 1)[positions]
        return token_logprobs(hidden, self.head, targets, temperature, chunk)

    @property
    def head(self) -> torch.nn.Linear:
        """The output embedding, (V, H)."""
        return self.causal_lm.get_output_embeddings()  # type: ignore[return-value]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within it the adapter is off: the model is the base."""
        with self.model.disable_adapter():
            yield

    @contextmanager
    def generating(self, dense: bool = False) -> Iterator[None]:
        """Within it nothing is recorded for gradients and the KV cache works; `dense` see expo_lite.dense."""
        was_training = self.model.training
        self.model.eval()  # transformers ignores the cache where checkpointing is on in training mode
        try:
            with torch.no_grad():
                if dense:
                    with dense_linears(self.model):
                        yield
                else:
                    yield
        finally:
            self.model.train(was_training)

    def wants_dense(self, setting: str) -> bool:
        """Resolve `rollout.dense_weights`. Merging is exact enough in float32 only (16 bit loses small deltas)."""
        if setting == "yes" and self.head.weight.dtype != torch.float32:
            raise ConfigError("rollout.dense_weights: works with policy.dtype float32 only (got yes)")
        if setting != "auto":
            return setting == "yes"
        dense_bytes = 4 * sum(m.in_features * m.out_features for m in quantised_linears(self.model))
        return (
            self.device.type == "cpu" and self.head.weight.dtype == torch.float32 and dense_bytes <= DENSE_LIMIT_BYTES
        )


def load_policy(config: PolicyConfig, seed: int) -> Policy:
    """Load the base, quantise it, add the adapter.

    Raises ConfigError where the device is missing or the model cannot be found.
    """
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    source = model_source(config.model)
    quantization = None
    if config.quantization == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    try:
        refuse_changed_logits(AutoConfig.from_pretrained(source), config.model)
        tokenizer = AutoTokenizer.from_pretrained(source)
        with no_bars_for(source):
            base = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, quantization_config=quantization, device_map={"": device}
            )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"policy.model: cannot load {config.model!r}: {first_line(error)}\n"
            "Give a folder with a saved model, or a Hub id that this machine can reach "
            "(gated models need `hf auth login`)."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return add_adapter(base, tokenizer, config, seed)


def refuse_changed_logits(config: Any, model: str) -> None:
    """Raises ConfigError for a model that scales or caps its logits: training would see other probabilities."""
    text = config.get_text_config()
    changed = [f"{name}={getattr(text, name)}" for name in LOGIT_CHANGES if getattr(text, name, None) not in (None, 1)]
    if changed:
        raise ConfigError(
            f"policy.model: {model!r} changes its logits after the head ({', '.join(changed)}), which is not "
            "supported; choose a model that does not, such as one of the Qwen or Llama families."
        )


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


def add_adapter(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: PolicyConfig, seed: int) -> Policy:
    """Freeze `base`, put LoRA with fp32 master weights on every linear layer but the head.

    peft's prepare_model_for_kbit_training is left out on purpose: it casts embeddings and head to fp32,
    2 GiB on a 7B model.
    """
    base.requires_grad_(False)
    without_dropout(base)
    avoid_in_place_repacking(base)
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(seed)
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, lora, autocast_adapter_dtype=True)  # float32 master weights
    model.train()
    return Policy(model, tokenizer)  # type: ignore[arg-type]


def without_dropout(model: PreTrainedModel) -> None:
    """Training has to see the probabilities that were sampled from."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
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


def end_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every token that ends a completion; chat models name several."""
    ids: set[int] = set()
    generation = model.generation_config
    for value in (tokenizer.eos_token_id, generation.eos_token_id if generation else None):
        ids.update(value if isinstance(value, list) else [] if value is None else [value])  # type: ignore[arg-type]
    return sorted(ids)


def resolve_device(setting: str) -> torch.device:
    """The device to train on. Raises ConfigError where a GPU is asked for and there is none."""
    has_gpu = torch.cuda.is_available()
    if setting == "cuda" and not has_gpu:
        raise ConfigError(
            "policy.device: this configuration needs an NVIDIA GPU, and torch sees none here; "
            "on a CPU use --preset tiny."
        )
    return torch.device("cuda" if has_gpu and setting != "cpu" else "cpu")


def resolve_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The compute type: float32 on the CPU, else bfloat16, or float16 on cards without it."""
    if setting != "auto":
        return getattr(torch, setting)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def first_line(error: Exception) -> str:
    """An error's message without its tail of advice."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
