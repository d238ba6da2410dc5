"""Base and adapter -> one model in 16 bit: the base's files, with W + scale B A where the adapter has a layer.

Names, shapes, types and shards are the base's, and every other tensor is the same bit for bit. One file is in memory at
a time: of bases on the Hub at most about 5 GB, unless one was saved in larger files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from expo_lite.core.errors import CheckpointError, ConfigError
from expo_lite.runs.export.adapter import Adapter
from expo_lite.runs.export.base_files import Stored

TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def refuse_unmergeable(adapter: Adapter, stored: Mapping[str, Stored], model: str) -> None:
    """Raises ConfigError where the base's files lack a layer of the adapter, by its name and shape and unquantised."""
    for layer, (a, b) in adapter.matrices.items():
        name, shape = weight_of(layer), (b.shape[0], a.shape[1])
        found = stored.get(name)
        if found is None or found.shape != shape or found.dtype not in TYPES:
            there = f"{found.dtype} {list(found.shape)}" if found else "no tensor of that name"
            raise ConfigError(
                f"policy.model: the adapter changes {name} {list(shape)}, and the files of {model} have {there}. They "
                "cannot be merged file by file; export the adapter alone, and let PEFT merge the loaded model."
            )


def merged_type(adapter: Adapter, stored: Mapping[str, Stored]) -> str:
    """The type of the merged layers, as config.json names it: that of the base's files."""
    name = stored[weight_of(next(iter(adapter.matrices)))].dtype
    return str(TYPES[name]).removeprefix("torch.")


def merge(adapter: Adapter, weights: Sequence[Path], folder: Path, told: Callable[[int], None]) -> None:
    """Write the base's weight files, merged, into `folder`; `told` hears the bytes of each file that is done.

    Raises CheckpointError where a merged number is not finite.
    """
    for path in weights:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        for layer in adapter.matrices:
            name = weight_of(layer)
            if name in tensors:
                tensors[name] = merged(tensors[name], adapter, layer)
        save_file(tensors, folder / path.name, metadata)
        shutil.copymode(path, folder / path.name)  # safetensors makes files that only their owner can read
        told(path.stat().st_size)


def merged(weight: Tensor, adapter: Adapter, layer: str) -> Tensor:
    """W + scale B A in float32, rounded once to the type of `weight`. Raises CheckpointError where it is not finite."""
    result = adapter.delta(layer).add_(weight).to(weight.dtype)
    if not torch.isfinite(result).all():
        raise CheckpointError(
            f"{weight_of(layer)} holds numbers that are not finite in {weight.dtype} once base and adapter are added; "
            "export the adapter alone, or look whether the base's files are damaged"
        )
    return result


def weight_of(layer: str) -> str:
    """The name of a linear layer's weight."""
    return f"{layer}.weight"
