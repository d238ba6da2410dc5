"""Where a model's files are; imports no torch."""

from __future__ import annotations

from pathlib import Path

TINY = "tiny"


def model_source(model: str) -> str:
    """The folder or Hub id to load; "tiny" is the base that ships in the package."""
    return str(tiny_base()) if model == TINY else model


def is_tiny_base(folder: str) -> bool:
    """Whether a path is that of the shipped base, wherever it was installed, or of its copy in an export."""
    return Path(folder).parts[-2:] in ((TINY, "base"), ("model", "tiny_base"))


def tiny_base() -> Path:
    """The folder of the shipped base."""
    return Path(__file__).resolve().parents[1] / "model" / "tiny_base"
