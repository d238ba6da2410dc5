"""What is said of a base whose files cannot be loaded, and what to do about it: that depends on where they are from."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from expo_lite.config.model_files import SMOL, TINY, model_source
from expo_lite.core.errors import ConfigError, first_line

# what transformers, json, tokenizers, safetensors and torch raise for files that are missing, cut short or damaged, and
# for a tokenizer that needs another package
CANNOT_LOAD = (
    OSError, ValueError, TypeError, KeyError, EOFError, ImportError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip
PICKLED = "PytorchStreamReader"
"""What torch's error for a damaged archive of pickles begins with; its other RuntimeErrors are no fault of files."""


@contextmanager
def said_if_unloadable(model: str) -> Iterator[None]:
    """Raises ConfigError, what is wrong and what to do, where the files of `model` cannot be loaded within."""
    try:
        yield
    except (*CANNOT_LOAD, RuntimeError) as error:
        if isinstance(error, CANNOT_LOAD) or PICKLED in str(error):
            raise ConfigError(
                f"policy.model: cannot load {model!r}: {reason(error)}\n{remedy(model, error)}"
            ) from error
        raise


def reason(error: Exception) -> str:
    """The library's own words; with the error's name where those are a key or a type alone."""
    named = f"{type(error).__name__}: " if isinstance(error, KeyError | TypeError) else ""
    return named + first_line(error)


def remedy(model: str, error: Exception) -> str:
    """What to do."""
    source = Path(model_source(model))
    if model == SMOL:
        return f"Delete the folder {source}; its files are made again."
    if model == TINY:
        return "It ships in the package: install expo-lite again."
    if source.is_dir():
        return "See whether that folder holds all files of a saved model, whole; or give another, or a Hub id."
    if isinstance(error, SafetensorError):
        return f"Its files in the Hub's cache are damaged: `hf cache rm model/{model}` deletes them; then start again."
    return (
        "Give a folder with a saved model, or a Hub id that this machine can reach (gated models need `hf auth login`)."
    )
