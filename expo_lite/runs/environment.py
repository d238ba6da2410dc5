"""What a run ran on, for environment.json: versions and hardware, nothing about the person."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "expo-lite",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "gguf",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "reasoning-gym",
    "math-verify",
    "numpy",
    "unsloth",
    "tensorboard",
    "wandb",
    "trackio",
)


def environment(threads: int | None = None, gpu: str | None = None) -> dict[str, Any]:
    """Versions, platform and processors; threads and GPU are the caller's to say, since this imports no torch."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name))},
        "cpus": os.cpu_count(),
        "threads": threads,
        "gpu": gpu,
    }


def version_of(package: str) -> str | None:
    """The installed version, None where the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
