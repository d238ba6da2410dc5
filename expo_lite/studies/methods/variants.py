"""What is compared: the paper's systems, and ExP-GRPO with one setting changed at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from expo_lite.config.methods import METHODS
from expo_lite.config.settings import ExplanationConfig


@dataclass(frozen=True)
class Variant:
    """One line of the report."""

    name: str
    title: str
    settings: tuple[tuple[str, Any], ...]
    """By dotted name: what sets it apart."""


STANDARD = "expo"
"""The method that ablations change."""

EVERY_FILTER = ExplanationConfig().filters

_ABLATIONS = {
    "weight-0.004": ("weight 0.004", "explanation.weight", 0.004),
    "weight-0.4": ("weight 0.4", "explanation.weight", 0.4),
    "weight-linear": ("weight falls to 0", "explanation.schedule", "linear"),
    "samples-1": ("K = 1", "explanation.samples", 1),
    "samples-8": ("K = 8", "explanation.samples", 8),
    "likeliest": ("the likeliest is chosen", "explanation.selection", "likeliest"),
    "all": ("all are chosen", "explanation.selection", "all"),
    "not-complete": ("cut off: not filtered", "explanation.filters", EVERY_FILTER - {"complete"}),
    "not-verified": ("wrong answers: not filtered", "explanation.filters", EVERY_FILTER - {"verified"}),
    "leaks": ("leaks: not filtered", "explanation.filters", EVERY_FILTER - {"no_leak"}),
    "every": ("for every prompt, as in the paper", "explanation.gate", "every"),
    "hint-wrong": ("told a wrong answer", "explanation.hint", "wrong"),
    "hint-none": ("told nothing", "explanation.hint", "none"),
}


def methods(names: Sequence[str]) -> list[Variant]:
    """The systems of these names, keys of METHODS."""
    return [Variant(name, METHODS[name].title, tuple(METHODS[name].settings.items())) for name in names]


def ablations() -> list[Variant]:
    """ExP-GRPO with one setting changed; the learning rate is that of ExP-GRPO."""
    standard = METHODS[STANDARD].settings
    return [
        Variant(f"ablation-{name}", title, tuple({**standard, setting: value}.items()))
        for name, (title, setting, value) in _ABLATIONS.items()
    ]
