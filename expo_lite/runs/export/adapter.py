"""A run's adapter as it lies on the disk, read only if it is whole and the run's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import CheckpointError
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS, hub_name, read_settings, unusual
from expo_lite.runs.files import sha256

_NAME = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")


@dataclass(frozen=True)
class Adapter:
    """LoRA matrices by the name of the linear layer that they change, A (r, in) and B (out, r), and their settings."""

    folder: Path
    settings: dict[str, Any]
    matrices: dict[str, tuple[Tensor, Tensor]]

    @property
    def scale(self) -> float:
        """What B A is multiplied by before it is added to a layer's weight."""
        return self.settings["lora_alpha"] / self.settings["r"]

    def delta(self, layer: str) -> Tensor:
        """What the adapter adds to a layer's weight, (out, in) in float32."""
        a, b = self.matrices[layer]
        return (b.float() @ a.float()) * self.scale


def read_adapter(folder: Path, policy: PolicyConfig, digest: str | None) -> Adapter:
    """The adapter in a folder. `digest`: that of its weights when they were saved, None where nobody noted it.

    Raises CheckpointError where a file is missing, damaged, or not what a run with these settings saved.
    """
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}; put the run's own back, or train again in another --run")
    matrices = read_matrices(folder / WEIGHTS)
    if digest is not None and sha256(folder / WEIGHTS) != digest:
        raise CheckpointError(
            f"{folder / WEIGHTS} is not the file that this run saved: eval.jsonl has another digest (sha256). Put the "
            "run's own back, or train again in another --run."
        )
    settings = read_settings(folder)
    refuse_other_settings(folder / SETTINGS, settings, policy)
    refuse_other_layers(folder, settings, matrices)
    return Adapter(folder, settings, matrices)


def read_matrices(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B by layer. Raises CheckpointError where the file is damaged or holds anything else."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); put the run's own back, or train again") from None
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = _NAME.fullmatch(name)
        if found is None or tensor.ndim != 2:
            raise CheckpointError(f"{path} holds {name}, which is no matrix of a LoRA adapter on linear layers")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite; the training went wrong there")
        pairs.setdefault(found[1], {})[found[2]] = tensor
    lonely = [layer for layer, of_layer in pairs.items() if len(of_layer) < 2]
    if lonely or not pairs:
        raise CheckpointError(f"{path} does not hold both matrices of {lonely[0] if lonely else 'any layer'}")
    return {layer: (of_layer["A"], of_layer["B"]) for layer, of_layer in pairs.items()}


def refuse_other_settings(path: Path, settings: dict[str, Any], policy: PolicyConfig) -> None:
    """Raises CheckpointError, one line for each setting, where they are not those of the run's config.yaml."""
    pairs = {"r": policy.lora_rank, "lora_alpha": policy.lora_alpha}
    wrong = [
        f"{path}: {name} is {settings.get(name)}, but the run's config.yaml says {here}"
        for name, here in pairs.items()
        if settings.get(name) != here
    ]
    named = settings.get("base_model_name_or_path") or ""
    if hub_name(named) and hub_name(named) != hub_name(policy.model):  # a folder may have been moved since
        wrong.append(f"{path}: base_model_name_or_path is {named}, but the run's config.yaml says {policy.model}")
    if found := unusual(settings):
        wrong.append(f"{path}: this program saves plain LoRA adapters only (got {', '.join(found)})")
    if wrong:
        raise CheckpointError("\n".join([*wrong, "Put the run's own files back, or train again in another --run."]))


def refuse_other_layers(folder: Path, settings: dict[str, Any], matrices: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Raises CheckpointError where layers or ranks of the matrices are not those of the settings."""
    targets = settings["target_modules"]
    for layer, (a, b) in matrices.items():
        if not (settings["r"] == a.shape[0] == b.shape[1]):
            raise CheckpointError(f"{folder}: the matrices of {layer} do not have the rank of {SETTINGS}")
        if not is_target(layer, targets):
            raise CheckpointError(f"{folder}: {layer} is in {WEIGHTS}, but not among target_modules of {SETTINGS}")
    missing = [] if isinstance(targets, str) else [t for t in targets if not any(is_target(m, [t]) for m in matrices)]
    if missing:
        raise CheckpointError(f"{folder}: {WEIGHTS} has nothing for {', '.join(missing)} of target_modules")


def is_target(layer: str, targets: str | list[str]) -> bool:
    """Whether PEFT puts an adapter on a layer: a pattern for its whole name, or the last parts of it."""
    if isinstance(targets, str):
        return re.fullmatch(targets, layer) is not None
    return any(layer == target or layer.endswith(f".{target}") for target in targets)
