"""Base and adapter -> one model in 16 bit: the base's files, with W + scale B A where the adapter has a layer.

Each file is copied and the changed tensors are written into the copy at their places. So names, shapes, types and
shards are the base's, everything else is the same byte for byte, and only one tensor is in memory at a time.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
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
                "cannot be merged file by file; export without --merged, and let PEFT merge the loaded model."
            )


def merged_type(adapter: Adapter, stored: Mapping[str, Stored]) -> str:
    """The type of the merged layers, as config.json names it: that of the base's files."""
    name = stored[weight_of(next(iter(adapter.matrices)))].dtype
    return str(TYPES[name]).removeprefix("torch.")


def merge(adapter: Adapter, stored: Mapping[str, Stored], folder: Path, told: Callable[[int], None]) -> None:
    """Write the merged weight files into `folder`; `told` hears the bytes of each file that is done.

    Raises CheckpointError where a merged number is not finite.
    """
    for path in sorted({tensor.file for tensor in stored.values()}):
        copy = shutil.copyfile(path, folder / path.name)
        with open(copy, "r+b") as file:
            for layer in adapter.matrices:
                place = stored[weight_of(layer)]
                if place.file == path:
                    weight = read(file, place)
                    file.seek(place.start)
                    file.write(as_bytes(merged(weight, adapter, layer)))
        told(copy.stat().st_size)


def read(file: BinaryIO, place: Stored) -> Tensor:
    """One tensor. Not through a memory map of the file, which would count as memory once it has been read through."""
    dtype = TYPES[place.dtype]
    file.seek(place.start)
    numbers = bytearray(file.read(math.prod(place.shape) * dtype.itemsize))
    return torch.frombuffer(numbers, dtype=dtype).view(place.shape)


def merged(weight: Tensor, adapter: Adapter, layer: str) -> Tensor:
    """W + scale B A in float32, rounded once to the type of `weight`. Raises CheckpointError where it is not finite."""
    result = adapter.delta(layer).add_(weight).to(weight.dtype)
    if not torch.isfinite(result).all():
        raise CheckpointError(
            f"{weight_of(layer)} holds numbers that are not finite in {weight.dtype} once base and adapter are added; "
            "export without --merged, or look whether the base's files are damaged"
        )
    return result


def weight_of(layer: str) -> str:
    """The name of a linear layer's weight."""
    return f"{layer}.weight"


def as_bytes(tensor: Tensor) -> bytes:
    """The numbers as they stand in a file."""
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()
