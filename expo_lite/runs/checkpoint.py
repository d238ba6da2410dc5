"""What a checkpoint holds, and putting it back.

Sampling and data order are functions of (seed, step), so adapter, optimizer, schedule and the step
number are all that a run needs to go on exactly as if it had not stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from expo_lite.core.errors import CheckpointError
from expo_lite.model.adapter_weights import DAMAGED, load_adapter, save_adapter


@dataclass(frozen=True)
class RunProgress:
    """How far a run is, and its best validation so far (mean pass@1 over levels)."""

    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    data: str = ""  # digest of the problems, so that a resumed run cannot go on with others


def save_checkpoint(folder: Path, model: PeftModel, training: dict[str, Any], progress: RunProgress) -> None:
    """Write adapter, training state (see Updater.state_dict) and progress into `folder` (atomic by RunDir.staged)."""
    save_adapter(folder / "adapter", model)
    torch.save(training, folder / "training.pt")
    (folder / "progress.json").write_text(json.dumps(asdict(progress)))


def load_checkpoint(folder: Path, model: PeftModel, restore: Callable[[dict[str, Any]], None]) -> RunProgress:
    """Put a saved state back; `restore` gets the training state. Raises CheckpointError if it is not this model's."""
    try:
        load_adapter(folder / "adapter", model)
        restore(torch.load(folder / "training.pt", map_location="cpu", weights_only=True))
        return RunProgress(**json.loads((folder / "progress.json").read_text()))
    except DAMAGED as error:
        raise CheckpointError(
            f"{folder}: cannot be resumed: {error}\nDelete this folder to resume from the checkpoint before it."
        ) from error
