"""One set of weights: a (4-bit) base with a LoRA adapter is sampler, policy and reference at once.

Adapter on = the policy being trained; adapter off = the reference (and the "before" model).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from expo_lite.config.model_files import model_source
from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import ConfigError, first_line
from expo_lite.memory.cards import repeats_kv
from expo_lite.model import unsloth
from expo_lite.model.adapter_files import SavedAdapter, find_adapter
from expo_lite.model.adapter_weights import DAMAGED, load_adapter
from expo_lite.model.base import freeze, load_base, no_bars_for, refuse_blank, refuse_changed_logits, refuse_replacement
from expo_lite.model.generation_linears import dense_copy, light_copy, replaced_linears
from expo_lite.model.masks import one_sequence_per_row, takes_trees
from expo_lite.model.plain_chat import give_plain_chat, has_plain_chat
from expo_lite.model.prefix_tree import PrefixTree
from expo_lite.model.prompts import end_token_ids
from expo_lite.model.smollm2 import prepare
from expo_lite.model.token_logprobs import token_logprobs
from expo_lite.model.unloadable import said_if_unloadable


class Policy:
    """A causal language model with one LoRA adapter, its tokenizer and its device."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, replaces_linears: bool = True) -> None:
        """`replaces_linears` is False where the model's own code looks into PEFT's layers, as Unsloth's does."""
        self.model = model
        self.replaces_linears = replaces_linears
        self.tokenizer = tokenizer
        self.causal_lm: PreTrainedModel = model.get_base_model()  # type: ignore[assignment]
        self.device = next(model.parameters()).device
        self.stops_at_questions = has_plain_chat(tokenizer)
        self.end_ids = end_token_ids(self.causal_lm, tokenizer)
        if tokenizer.eos_token_id is None:
            raise ConfigError("policy.model: its tokenizer has no end token (eos_token), so nothing could be finished")

    @property
    def vocabulary(self) -> int:
        """How many tokens the model can read: the rows of its embedding."""
        return self.causal_lm.get_input_embeddings().num_embeddings  # type: ignore[return-value]

    @property
    def pad_id(self) -> int:
        """The token that fills rows: any that the model has will do, for what stands there is never looked at."""
        return min(int(self.tokenizer.pad_token_id), self.vocabulary - 1)  # type: ignore[arg-type]

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        """The fp32 adapter matrices."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def hidden_states(self, inputs: Tensor | PrefixTree, cache: DynamicCache | None = None) -> Tensor:
        """Last hidden states (B, T, H) of right-padded token ids (B, T), or (1, M, H) of a tree's M tokens.

        An empty `cache` is filled with keys and values of the same tokens.

        No attention mask: with causal attention, padding on the right cannot reach the tokens before it,
        and without a mask every backend can take its fastest attention kernel.
        """
        given = inputs.model_inputs if isinstance(inputs, PrefixTree) else {"input_ids": inputs}
        with one_sequence_per_row():
            output = self.causal_lm.get_decoder()(**given, past_key_values=cache, use_cache=cache is not None)
        return output.last_hidden_state

    def completion_logprobs(
        self, inputs: Tensor | PrefixTree, positions: Tensor, targets: Tensor, temperature: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies (N,) of `targets` (N,), predicted at `positions` (N,) of the flat inputs."""
        hidden = self.hidden_states(inputs).flatten(0, 1)[positions]
        return token_logprobs(hidden, self.head, targets, temperature, chunk)

    @property
    def takes_trees(self) -> bool:
        """Whether `hidden_states` takes a PrefixTree."""
        return takes_trees(self.causal_lm)

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
    def adapter_by_row(self, rows: Sequence[bool]) -> Iterator[None]:
        """Within it, the adapter is off in those rows of a batch that are False. Not while training."""
        if all(rows):
            yield
            return
        names = ["default" if on else "__base__" for on in rows]
        hooks = self.model.base_model._enable_peft_forward_hooks(adapter_names=names)  # type: ignore[operator]
        hooks.__enter__()
        try:
            yield
        finally:  # PEFT 0.21 leaves its hooks behind where it sees an error, such as one for lack of memory
            hooks.__exit__(None, None, None)

    @contextmanager
    def generating(self, linears: Literal["own", "light", "dense"] = "own") -> Iterator[None]:
        """Within it nothing is recorded for gradients and the KV cache works.

        Instead of PEFT's own LoRA layers there can be `light` or `dense` ones (see generation_linears), which take the
        adapter as it is now: on or off for all rows.
        """
        was_training = self.model.training
        self.model.eval()  # transformers ignores the cache where checkpointing is on in training mode
        make = dense_copy if linears == "dense" else partial(light_copy, dtype=self.head.weight.dtype)
        replaced = linears != "own" and self.replaces_linears
        try:
            with torch.no_grad(), replaced_linears(self.model, make) if replaced else nullcontext():
                yield
        finally:
            self.model.train(was_training)


def load_policy(
    config: PolicyConfig, seed: int, sequence_tokens: int | None = None, device: torch.device | None = None
) -> Policy:
    """Load the base on `device` (the configured one), quantise it, add the adapter.

    `sequence_tokens`, the longest sequence, is for Unsloth alone.

    Raises ConfigError where the device is missing, or model, adapter or backend cannot be had.
    """
    device = device or resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    source = model_source(config.model)
    saved = find_adapter(config)
    prepare(config.model)
    with said_if_unloadable(config.model):
        model_config = AutoConfig.from_pretrained(source)
        refuse_changed_logits(model_config, config.model)
        tokenizer = AutoTokenizer.from_pretrained(source)
        refuse_blank(tokenizer)
        with no_bars_for(source):
            if config.backend == "unsloth":
                longest = sequence_tokens or model_config.get_text_config().max_position_embeddings
                base = unsloth.load_base(source, config.quantization, dtype, device, longest)
                refuse_replacement(base, config.quantization, dtype)
            else:
                base = load_base(source, config.quantization, dtype, device, without_flash(device, dtype))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    give_plain_chat(tokenizer)
    return add_adapter(base, tokenizer, config, seed, saved)


def add_adapter(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: PolicyConfig,
    seed: int,
    saved: SavedAdapter | None = None,
) -> Policy:
    """Freeze `base`, put LoRA with fp32 master weights on every linear layer but the head.

    The adapter starts as `saved` where there is one, with the layers that is on; else the seed decides it, and it
    changes nothing yet. peft's prepare_model_for_kbit_training is left out on purpose: it casts embeddings and head
    to fp32, 2 GiB on a 7B model.
    """
    freeze(base)
    targets = saved.target_modules if saved else "all-linear"
    if config.backend == "unsloth":
        model = unsloth.add_lora(base, config.lora_rank, config.lora_alpha, targets, seed)
    else:
        torch.manual_seed(seed)
        lora = LoraConfig(
            r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=targets, task_type="CAUSAL_LM"
        )
        model = get_peft_model(base, lora, autocast_adapter_dtype=True)  # float32 master weights
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    policy = Policy(model, tokenizer, replaces_linears=config.backend != "unsloth")  # type: ignore[arg-type]
    if saved:
        go_on_from(saved, policy, config)
    return policy


def go_on_from(saved: SavedAdapter, policy: Policy, config: PolicyConfig) -> None:
    """Copy a saved adapter's matrices into the policy's. Raises ConfigError where it is not this model's."""
    ends = (policy.head, policy.causal_lm.get_input_embeddings())
    if any(parameter.requires_grad for end in ends for parameter in end.parameters()):
        raise ConfigError(f"policy.adapter: {config.adapter} changes embedding or head, which have to stay the base's")
    try:
        load_adapter(saved.folder, policy.model)
    except DAMAGED as error:
        raise ConfigError(
            f"policy.adapter: {config.adapter} cannot be used with {config.model}: {first_line(error)}"
        ) from error


def resolve_device(setting: str) -> torch.device:
    """The device to train on; a GPU comes with its index, which torch.cuda's functions ask for.

    Raises ConfigError where a GPU is asked for and there is none, or fewer than a launcher has started processes.
    """
    has_gpu = torch.cuda.is_available()
    if setting == "cuda" and not has_gpu:
        raise ConfigError(
            "policy.device: this configuration needs an NVIDIA GPU, and torch sees none here; "
            "on a CPU use --preset tiny."
        )
    if not has_gpu or setting == "cpu":
        return torch.device("cpu")
    rank = os.environ.get("LOCAL_RANK")  # a launcher's: which of this machine's processes this is
    index, there_are = torch.cuda.current_device() if rank is None else int(rank), torch.cuda.device_count()
    if index >= there_are:
        raise ConfigError(
            f"policy.device: process {index + 1} of this machine has no GPU of its own, torch sees {there_are}; start "
            f"{there_are} (accelerate launch --num_processes {there_are})."
        )
    return torch.device("cuda", index)


def without_flash(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether it is a GPU on which torch's flash attention does not run in this type."""
    return device.type == "cuda" and (dtype == torch.float32 or repeats_kv(torch.cuda.get_device_capability(device)))


def resolve_dtype(setting: str, device: torch.device) -> torch.dtype:
    """The compute type: float32 on the CPU, else bfloat16, or float16 on cards without it."""
    if setting != "auto":
        return getattr(torch, setting)
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
