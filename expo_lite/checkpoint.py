"""What a checkpoint holds, and putting it back.

Sampling and data order are functions of (seed, step), so adapter, optimizer, schedule and the step
number are all that a run needs to go on exactly as if it had not stopped.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from expo_lite.errors import CheckpointError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
# what json, torch, safetensors and the optimizer raise for files that are missing, cut short, damaged or another run's
DAMAGED = (
    OSError, EOFError, KeyError, ValueError, RuntimeError, TypeError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a run is, and its best validation so far (mean pass@1 over levels)."""

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0


def save_checkpoint(
    folder: Path, model: PeftModel, optimizer: Optimizer, scheduler: LRScheduler, progress: Progress
) -> None:
    """Write adapter, optimizer, schedule and progress into `folder` (see RunDir.staged for atomicity)."""
    model.save_pretrained(str(folder / "adapter"))
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, folder / "training.pt")
    (folder / "progress.json").write_text(json.dumps(asdict(progress)))


def load_checkpoint(folder: Path, model: PeftModel, optimizer: Optimizer, scheduler: LRScheduler) -> Progress:
    """Put a saved state back. Raises CheckpointError if it does not belong to this model."""
    try:
        load_adapter(folder / "adapter", model)
        state = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        return Progress(**json.loads((folder / "progress.json").read_text()))
    except DAMAGED as error:
        raise CheckpointError(
            f"{folder}: cannot be resumed: {error}\nDelete this folder to resume from the checkpoint before it."
        ) from error


def load_adapter(folder: Path, model: PeftModel) -> None:
    """Copy a saved adapter's matrices into `model`. Raises ValueError where names or shapes differ."""
    saved = load_file(folder / ADAPTER_WEIGHTS)
    expected = get_peft_model_state_dict(model)
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    if shapes != {name: tensor.shape for name, tensor in saved.items()}:
        raise ValueError(f"the adapter in {folder} was trained for another model or rank")
    set_peft_model_state_dict(model, saved)
