"""What a checkpoint holds, and putting it back.

Sampling and data order are functions of (seed, step), so adapter, optimizer, schedule and the step
number are all that a run needs to go on exactly as if it had not stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file

from expo_lite.core.errors import CheckpointError, first_line
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS
from expo_lite.model.adapter_weights import DAMAGED, load_adapter, save_adapter
from expo_lite.runs.manifest import MANIFEST, fault_in

TRAINING, PROGRESS = "training.pt", "progress.json"
BEST = "best"
"""In a checkpoint that is not itself the best so far: the adapter that is."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is, and its best validation so far (mean pass@1 over levels)."""

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    data: str = ""  # digest of the problems, so that a resumed run cannot go on with others

    @classmethod
    def read(cls, checkpoint: Path) -> RunProgress:
        """What a checkpoint says. Raises OSError, ValueError or TypeError where it says something else."""
        progress = cls(**json.loads((checkpoint / PROGRESS).read_bytes()))
        if not (type(progress.step) is type(progress.best_step) is int and isinstance(progress.data, str)):
            raise ValueError(f"{PROGRESS} holds no progress")
        return replace(progress, best_score=float(progress.best_score))


def save_checkpoint(folder: Path, model: PeftModel, training: dict[str, Any], progress: RunProgress) -> None:
    """Write adapter, training state (see Updater.state_dict) and progress into `folder` (atomic by RunDir.staged)."""
    save_adapter(folder / "adapter", model)
    torch.save(training, folder / TRAINING)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)))


def load_checkpoint(folder: Path, model: PeftModel, restore: Callable[[dict[str, Any]], None]) -> RunProgress:
    """Put a saved state back; `restore` gets the training state. Raises CheckpointError if it is not this model's."""
    try:
        load_adapter(folder / "adapter", model)
        restore(torch.load(folder / TRAINING, map_location="cpu", weights_only=True))
        return RunProgress.read(folder)
    except DAMAGED as error:
        raise CheckpointError(
            f"{folder}: cannot be resumed: {first_line(error)}\nMove this folder elsewhere to resume from the "
            "checkpoint before it."
        ) from error


def unsound(folder: Path) -> str | None:
    """Why a checkpoint cannot be gone on from, in a few words; None where it can, whatever model it is of."""
    if fault := fault_in(folder):
        return fault
    try:
        step = RunProgress.read(folder).step
        weights = load_file(folder / "adapter" / WEIGHTS)
        if not (folder / MANIFEST).is_file():
            torch.load(folder / TRAINING, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        return f"it cannot be read: {first_line(error)}"
    if folder.name != f"step_{step:06d}":
        return f"it is of step {step}"
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        return "its adapter holds numbers that are not finite"
    return None


def best_adapter(folder: Path, progress: RunProgress) -> Path | None:
    """Where a checkpoint holds the best adapter so far; None in older ones, which kept only their own."""
    if (folder / BEST).is_dir():
        return folder / BEST
    return folder / "adapter" if progress.step == progress.best_step else None


def copy_adapter(source: Path, folder: Path) -> None:
    """Copy an adapter's two files into a folder, which is made where it is missing."""
    folder.mkdir(exist_ok=True)
    for name in (SETTINGS, WEIGHTS):
        shutil.copyfile(source / name, folder / name)
