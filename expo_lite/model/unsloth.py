"""Unsloth, behind two functions: base and adapter come from it, everything else is as with transformers.

Unsloth patches transformers, peft and trl for the whole process while it is imported, so nothing imports it
before a run asks for it, and an entry point then calls `import_early` before anything imports transformers.

Its `FastModel` is taken, not `FastLanguageModel`: that one keeps the KV cache inside its attention layers, where
finished rollouts cannot be dropped, and cuts inputs beyond `max_seq_length`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import ConfigError, first_line

if TYPE_CHECKING:
    import torch

# Read by Unsloth; what a user has set stands.
DEFAULTS = {"UNSLOTH_DISABLE_STATISTICS": "1"}  # else it reports each loading to its makers, by a download
# With 1, which other programs on top of Unsloth leave behind, a model's logits are its hidden states.
FORCED = {"UNSLOTH_RETURN_HIDDEN_STATES": "0"}


def import_early(config: PolicyConfig) -> None:
    """Import Unsloth if the run asks for it, before anything imports transformers.

    Raises ConfigError where it is not installed or does not work on this machine.
    """
    if config.backend == "unsloth":
        import_unsloth()


def import_unsloth() -> Any:
    """The package `unsloth`. Raises ConfigError where it is not installed or does not work on this machine."""
    if importlib.util.find_spec("unsloth") is None:
        raise ConfigError(
            'policy.backend: Unsloth is not installed (got unsloth); on Linux, pip install "expo-lite[unsloth]", '
            "or leave it at transformers"
        )
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(FORCED)
    try:
        return importlib.import_module("unsloth")
    except Exception as error:  # its import checks drivers, versions and binaries, and raises whatever they raise
        raise ConfigError(
            f"policy.backend: Unsloth does not work here: {first_line(error)}\n"
            "Mend that, or set policy.backend to transformers."
        ) from error


def load_base(source: str, quantization: str, dtype: torch.dtype, device: torch.device, sequence_tokens: int) -> Any:
    """The model of a folder or Hub id, as Unsloth loads it, for sequences of at most `sequence_tokens`.

    It may be in another type or quantisation than asked for, which Unsloth says in a printed line only: see
    `base.refuse_replacement`. Raises OSError or ValueError where it cannot be loaded, ConfigError where Unsloth
    knows no such model.
    """
    unsloth = import_unsloth()
    try:
        base, _ = unsloth.FastModel.from_pretrained(
            model_name=source,
            max_seq_length=sequence_tokens,
            dtype=dtype,
            load_in_4bit=quantization == "nf4",
            load_in_16bit=quantization == "none",
            device_map={"": str(device)},
            use_exact_model_name=True,  # else it takes its own upload of the model, quantised in another way
            use_gradient_checkpointing=False,  # see `add_lora`
            offload_embedding=False,
        )
    except NotImplementedError as error:
        raise ConfigError(
            f"policy.backend: Unsloth does not support this model here: {first_line(error)}\nSet it to transformers."
        ) from error
    return base


def add_lora(base: Any, rank: int, alpha: int, targets: str | list[str], seed: int) -> Any:
    """Put LoRA with float32 master weights on the linear layers that `targets` names; returns a peft model.

    Gradient checkpointing is left to the caller: Unsloth's own is re-entrant, and such a backward pass adds to
    `.grad` by itself, which `torch.autograd.grad` refuses.
    """
    model = import_unsloth().FastModel.get_peft_model(
        base,
        r=rank,
        target_modules=targets,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        use_gradient_checkpointing=False,
        random_state=seed,
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model
