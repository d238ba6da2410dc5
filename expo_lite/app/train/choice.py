"""What a choice of preset, method and seed would do: its settings, its memory, and whether it can run here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from expo_lite.app.limits import checked_seed
from expo_lite.app.train.trainings import TrainRequest
from expo_lite.config.dotted import replaced
from expo_lite.config.methods import METHODS
from expo_lite.config.presets import preset_path, preset_summary, presets
from expo_lite.config.read import read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, DataError, MemoryBudgetError
from expo_lite.memory.budget import BudgetedPlan, plan_on
from expo_lite.memory.cap import place_here
from expo_lite.memory.cards import place_of
from expo_lite.memory.plan import CONTEXT_BYTES, GIB
from expo_lite.memory.remedies import require_fit
from expo_lite.model.policy import resolve_device

METHOD_CHOICES = [
    ("ExPO: its own explanations", "expo"),
    ("Expert: given solutions", "expert"),
    ("GRPO: its attempts alone", "grpo"),
]
FIRST = TrainRequest("tiny", "expo", 0)
"""What the page shows before anyone has chosen."""


@dataclass(frozen=True)
class Prepared:
    """A wish with its settings, its plan, and why it cannot run here (empty if it can).

    `card` is the GPU's memory in GiB; None where it would be trained on the CPU, or cannot run here.
    """

    asked: TrainRequest
    summary: str
    config: Config
    planned: BudgetedPlan
    refusal: str
    card: float | None = None


def checked_wish(preset: object, method: object, seed: object) -> TrainRequest:
    """What a user handed in. Raises DataError with a sentence."""
    if preset not in presets():
        raise DataError(f"There is no preset {str(preset)[:80]!r}.")
    if method not in METHODS:
        raise DataError(f"There is no method {str(method)[:80]!r}.")
    return TrainRequest(str(preset), str(method), checked_seed(seed))


@lru_cache(maxsize=64)
def prepare(asked: TrainRequest) -> Prepared:
    """Plan a run; nothing is loaded. Raises ConfigError if the preset cannot be read."""
    config = replaced(read_config(preset_path(asked.preset)), {**asked.settings, "run": "planned"})
    refusal, card = "", None
    try:
        planned = plan_on(config, place_here(device := resolve_device(config.policy.device)))
        require_fit(config, planned)
        if device.type == "cuda":
            card = torch.cuda.get_device_properties(device).total_memory / GIB
    except (ConfigError, MemoryBudgetError) as error:
        planned = plan_on(config, place_of(config))
        refusal = _why_not(asked, config, error)
    return Prepared(asked, preset_summary(asked.preset), config, planned, refusal, card)


def held_by_app() -> float:
    """GiB of the GPU that this process itself keeps, for the model that Compare shows; 0 where that is on the CPU."""
    reserved = torch.cuda.memory_reserved() if torch.cuda.is_initialized() else 0
    return (reserved + CONTEXT_BYTES) / GIB if reserved else 0.0  # only looking at a GPU makes no context


def _why_not(asked: TrainRequest, config: Config, error: Exception) -> str:
    try:
        resolve_device(config.policy.device)
    except ConfigError:
        return (
            f"The preset {asked.preset} needs an NVIDIA GPU, and there is none here. Choose tiny, which trains on any "
            "processor, or copy the command to a machine that has one."
        )
    return str(error)
