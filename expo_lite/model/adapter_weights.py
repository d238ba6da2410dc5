"""An adapter's matrices into a folder, and back into a model."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from expo_lite.core.errors import first_line
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS

# what json, torch, safetensors and the optimizer raise for files that are missing, cut short, damaged or another run's
DAMAGED = (
    OSError, EOFError, KeyError, ValueError, RuntimeError, TypeError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip


def save_adapter(folder: Path, model: PeftModel) -> None:
    """Write a plain PEFT adapter, without PEFT's empty model card."""
    model.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" asks the Hub, at every checkpoint
    shutil.copymode(folder / SETTINGS, folder / WEIGHTS)  # safetensors makes files that only their owner can read
    (folder / "README.md").unlink(missing_ok=True)


def load_adapter(folder: Path, model: PeftModel) -> None:
    """Copy a saved adapter's matrices into `model`. Raises ValueError where it is damaged or does not fit."""
    try:
        saved = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged ({first_line(error)}); bring it here again") from None
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    shapes = {name: tensor.shape for name, tensor in expected.items()}
    if shapes != {name: tensor.shape for name, tensor in saved.items()}:
        raise ValueError(f"the adapter in {folder} was trained for another model or rank")
    set_peft_model_state_dict(model, saved)
