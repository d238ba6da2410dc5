"""An existing LoRA adapter to go on from: finding it, and refusing one that this program cannot continue.

Imports no torch: what is wrong with an adapter is said before anything is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expo_lite.config.dotted import replaced
from expo_lite.config.hub import may_be_on_hub
from expo_lite.config.settings import Config, PolicyConfig
from expo_lite.core.errors import ConfigError, first_line

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# What may stand in adapter_config.json for an adapter that is low-rank matrices on linear layers and nothing more.
# Everything that is not named here, now or by a later peft, has to be empty.
PLAIN: dict[str, tuple[Any, ...]] = {
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    # the others compute the first matrices from the base's weights and change those: off would not be the base
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
# Checked apart, or without a meaning for what the matrices compute. Dropout is not used: training has to see the
# probabilities that were sampled from.
FREE = {
    "peft_type", "r", "lora_alpha", "target_modules", "base_model_name_or_path", "revision", "peft_version",
    "auto_mapping", "inference_mode", "lora_dropout", "eva_config", "megatron_core", "qalora_group_size",
    "runtime_config",
}  # fmt: skip
EMPTY = (None, False, [], {})


@dataclass(frozen=True)
class SavedAdapter:
    """A plain LoRA adapter in a folder, with the layers it is on."""

    folder: Path
    target_modules: str | list[str]


def find_adapter(config: PolicyConfig) -> SavedAdapter | None:
    """The adapter that `policy.adapter` names, or None without one.

    Raises ConfigError where it is missing, no plain LoRA adapter, of another rank or alpha, or for another model.
    """
    if config.adapter is None:
        return None
    folder = adapter_folder(config.adapter)
    values = read_settings(folder)
    require_plain(folder, values)
    require_agreement(config, values)
    require_base(config, folder, values)
    return SavedAdapter(folder, values["target_modules"])


def adapter_folder(adapter: str) -> Path:
    """The folder with the adapter's two files: a local one, a run's, or the Hub's. ConfigError where there is none."""
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        folder = from_hub(adapter)
    elif not (folder / SETTINGS).is_file() and (folder / "adapter").is_dir():  # a run's folder, or a checkpoint
        folder = folder / "adapter"
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise ConfigError(f"policy.adapter: {adapter} is not a folder that PEFT has saved: it has no {name}")
    return folder


def from_hub(name: str, patterns: Sequence[str] = (SETTINGS, WEIGHTS), setting: str = "policy.adapter") -> Path:
    """The folder that these files of a Hub repository are downloaded to, by default an adapter's.

    Raises ConfigError, which names `setting`, where the Hub does not give them.
    """
    from huggingface_hub import snapshot_download  # late: slow to import, and a local folder needs none of it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ConfigError(
            f"{setting}: cannot load {name!r}: there is no such folder, and the Hub does not give it here: "
            f"{first_line(error)}"
        ) from None


def read_settings(folder: Path) -> dict[str, Any]:
    """What adapter_config.json says. Raises ConfigError where it cannot be read."""
    path = folder / SETTINGS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"policy.adapter: {path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"policy.adapter: {path} cannot be read: it holds no settings")
    return values


def require_plain(folder: Path, values: dict[str, Any]) -> None:
    """Raises ConfigError for what is more than low-rank matrices on linear layers."""
    if found := unusual(values):
        raise ConfigError(
            f"policy.adapter: {folder} is not a plain LoRA adapter ({', '.join(found)}). Only low-rank matrices on "
            "linear layers can be continued, since the model must be the base again with the adapter off."
        )


def unusual(values: dict[str, Any]) -> list[str]:
    """What an adapter's settings have beyond low-rank matrices on linear layers."""
    kind = values.get("peft_type")
    found = [] if kind == "LORA" else [f"peft_type={kind}"]
    found += [
        f"{name}={value}" for name, value in values.items() if name not in FREE and value not in PLAIN.get(name, EMPTY)
    ]
    return found if values.get("target_modules") else [*found, "no target_modules"]


def require_agreement(config: PolicyConfig, values: dict[str, Any]) -> None:
    """Raises ConfigError where rank or alpha are not the configured ones, which memory is planned for."""
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if rank is None or alpha is None:
        raise ConfigError(f"policy.adapter: {config.adapter}: its {SETTINGS} has no r or lora_alpha")
    pairs = {"lora_rank": (config.lora_rank, rank), "lora_alpha": (config.lora_alpha, alpha)}
    differing = [
        f"policy.{name}: the adapter {config.adapter} has {there} (got {here}); set --policy.{name.replace('_', '-')} "
        f"{there}"
        for name, (here, there) in pairs.items()
        if here != there
    ]
    if differing:
        raise ConfigError("\n".join(differing))


def require_base(config: PolicyConfig, folder: Path, values: dict[str, Any]) -> None:
    """Raises ConfigError where the adapter says that it belongs to a model that has another name on the Hub.

    A local folder may hold any model; loading tells whether the adapter's matrices fit it.
    """
    named = values.get("base_model_name_or_path") or ""
    there, here = hub_name(named), hub_name(config.model)
    if there and here and there != here:
        raise ConfigError(
            f"policy.model: the adapter {config.adapter} was trained on {named} (got {config.model}); set policy.model "
            f"to that. If it is the same model by another name, correct base_model_name_or_path in {folder / SETTINGS}."
        )


def hub_name(model: str) -> str | None:
    """A Hub model's name without owner and the suffix of a 4-bit upload, in small letters; None for a local folder."""
    if not may_be_on_hub(model):
        return None
    return re.sub(r"(-unsloth)?-bnb-4bit$", "", model.lower().partition("/")[2])


def shaped_like(adapter: Path, config: Config) -> Config:
    """The configuration with its model opened around this adapter: it may be on other layers than a new one's."""
    return replaced(config, {"policy.adapter": str(adapter)})
