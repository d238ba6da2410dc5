"""The files of a base model: those that describe it, and its 16-bit weights, looked into without loading them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from expo_lite.core.errors import CheckpointError, ConfigError, first_line
from expo_lite.model.adapter_files import from_hub
from expo_lite.runs.prepared import prepared

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*",
)  # fmt: skip
MODEL = (CONFIG, "generation_config.json")
_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
WEIGHTS = ("model*.safetensors", _INDEX)


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file: its type as the format names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def base_folder(model: str, with_weights: bool) -> Path:
    """The folder with a base's files, downloaded where it is on the Hub. Raises ConfigError where it is nowhere."""
    folder = prepared(model)
    if folder.is_dir():
        return folder
    return from_hub(model, (*TOKENIZER, *MODEL, *(WEIGHTS if with_weights else ())), "policy.model")


def described_by(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files of these patterns that a folder has."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def read_json(path: Path) -> dict[str, Any]:
    """One of a base's JSON files. Raises ConfigError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"policy.model: {path} cannot be read: {error}") from None


def refuse_quantised(folder: Path, model: str) -> None:
    """Raises ConfigError for a base whose files hold quantised weights: merging into those would round twice."""
    if read_json(folder / CONFIG).get("quantization_config"):
        raise ConfigError(
            f"policy.model: the files of {model} are quantised, and an adapter is merged into 16-bit weights only. "
            "Where the same model is stored in 16 bit, name that as policy.model in the run's config.yaml; or export "
            "the adapter alone."
        )


def weight_files(folder: Path, model: str) -> list[Path]:
    """The safetensors files that transformers loads from a folder. Raises ConfigError where there are none."""
    if (folder / _ONE).is_file():
        return [folder / _ONE]
    if (folder / _INDEX).is_file():
        files = [folder / name for name in sorted(set(read_json(folder / _INDEX).get("weight_map", {}).values()))]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise ConfigError(f"policy.model: {folder} has no {', '.join(missing)}, which its {_INDEX} names")
        return files
    raise ConfigError(
        f"policy.model: {model} has no safetensors files to merge into. Load it once with transformers, save it by "
        "model.save_pretrained(FOLDER) and tokenizer.save_pretrained(FOLDER), and name FOLDER as policy.model in the "
        "run's config.yaml; or export the adapter alone."
    )


def beside_weights(folder: Path) -> list[Path]:
    """The index of several weight files, which holds for the merged ones too."""
    return [] if (folder / _ONE).is_file() else [folder / _INDEX]


def stored_tensors(files: list[Path]) -> dict[str, Stored]:
    """Every tensor of some safetensors files by name. Raises CheckpointError where one is damaged."""
    found: dict[str, Stored] = {}
    for path in files:
        try:
            with safe_open(path, "pt") as file:  # it compares the header with the file's length
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged ({first_line(error)}); bring it here again") from None
        found |= {name: Stored(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    return found
