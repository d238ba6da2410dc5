"""Will it fit? A user's settings -> the plan, a verdict, a forecast, and the command that says the same.

No model is loaded, and nothing is asked of the network: models are known by their shape, or lie on this machine.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from expo_lite.config.dotted import replaced, value_of
from expo_lite.config.messages import as_text
from expo_lite.config.model_files import TINY, model_source
from expo_lite.config.presets import preset_path, presets
from expo_lite.config.read import resolve
from expo_lite.config.settings import Config
from expo_lite.config.yaml_file import Layer, read_yaml
from expo_lite.core.errors import ConfigError, MemoryBudgetError
from expo_lite.memory.budget import BudgetedPlan, largest, plan_on, replanned
from expo_lite.memory.cards import CARDS, place_of
from expo_lite.memory.forecast import Forecast
from expo_lite.memory.remedies import require_fit
from expo_lite.memory.shapes import KNOWN, ModelShape, shape_from_config
from expo_lite.runs.on_card import forecast_on, room_left

PROGRAM = "expo-lite plan"
LONGEST_NAME = 300
LONGEST_COMPLETION = 2**17
"""Tokens; nobody asks whether more would fit."""
SETTINGS = {
    "model": "policy.model",
    "budget_gib": "memory.budget_gib",
    "prompt_tokens": "rollout.max_prompt_tokens",
    "new_tokens": "rollout.max_new_tokens",
    "prompts": "rollout.prompts_per_step",
    "group": "rollout.group_size",
    "rank": "policy.lora_rank",
    "optimizer": "optimizer.name",
    "checkpointing": "policy.gradient_checkpointing",
}
"""A field of `FitQuestion` and the setting it stands for."""
HIGHEST = {
    "memory.budget_gib": 10_000,
    "rollout.max_prompt_tokens": 1_000_000,
    "rollout.max_new_tokens": 1_000_000,
    "rollout.prompts_per_step": 10_000,
    "rollout.group_size": 10_000,
    "policy.lora_rank": 4_096,
}
"""Beyond these no plan is asked for in earnest."""


@dataclass(frozen=True)
class FitQuestion:
    """What the form holds: a preset, what differs from it, and a card (or None). Not yet validated."""

    preset: str
    card: str | None
    model: Any
    budget_gib: Any
    prompt_tokens: Any
    new_tokens: Any
    prompts: Any
    group: Any
    rank: Any
    optimizer: Any
    checkpointing: Any


@dataclass(frozen=True)
class Fit:
    """The answer. `refusal` names what to change and is empty where the run fits; `seconds` are for a named card.

    `spare` says what a larger card could do with the memory that is left. A run that does not fit has neither.
    """

    asked: FitQuestion
    config: Config
    planned: BudgetedPlan
    refusal: str
    longest: int
    seconds: Forecast | None
    spare: str
    command: str

    @property
    def hours(self) -> float | None:
        """Of the whole run, on the named card."""
        return None if self.seconds is None else self.seconds.total / 3600


def preset_values(preset: str, card: str | None = None) -> FitQuestion:
    """The form as a preset fills it. Raises ConfigError where there is no such preset."""
    config = _preset(preset)
    return FitQuestion(preset, card, **{field: value_of(config, name) for field, name in SETTINGS.items()})


def fit(asked: FitQuestion, own: Collection[str] = ()) -> Fit:
    """Plan what was asked for; `own` are models that may be folders of this machine.

    Raises ConfigError with a sentence that names the setting.
    """
    changed = changes(asked)
    _refuse_beyond_reason(changed)
    config = resolve([read_yaml(preset_path(asked.preset), f"presets/{asked.preset}.yaml"), _layer(changed)])
    shape = shape_here(config.policy.model, own)
    planned = plan_on(config, place_of(config, asked.card), shape)
    refusal = ""
    try:
        require_fit(config, planned)
    except MemoryBudgetError as error:
        refusal = str(error)

    def fits(tokens: int) -> bool:
        return replanned(planned, replaced(config, {"rollout.max_new_tokens": tokens})).fits

    longest = largest(fits, LONGEST_COMPLETION)
    card = None if refusal else asked.card
    found = forecast_on(config, card, shape) if card else None
    spare = room_left(config, planned, CARDS[found.card].gib, found.pace) if found else ""
    seconds = found.forecast if found else None
    return Fit(asked, config, planned, refusal, longest, seconds, spare, command(asked, changed))


def changes(asked: FitQuestion) -> dict[str, Any]:
    """The settings that differ from the preset's, by dotted name. Raises ConfigError for a card that nobody knows."""
    if asked.card is not None and asked.card not in CARDS:
        raise ConfigError(f"card: there is no {str(asked.card)[:80]!r}")
    preset = preset_values(asked.preset)
    given = {field: plain(value) for field, value in asdict(asked).items()}
    changed = {name: given[field] for field, name in SETTINGS.items() if given[field] != getattr(preset, field)}
    if asked.card is not None and _preset(asked.preset).policy.device == "cpu":
        changed["policy.device"] = "cuda"  # who names a card means to run on it
    return changed


def command(asked: FitQuestion, changed: dict[str, Any]) -> str:
    """The command line that prints this plan."""
    words = [*PROGRAM.split(), "--preset", asked.preset]
    for name, value in changed.items():
        words += ["--" + name.replace("_", "-"), as_text(value)]
    return shlex.join([*words, *(["--card", asked.card] if asked.card else [])])


def plain(value: Any) -> Any:
    """A number of the page (always a float) as people write it; text without blanks around it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


def shape_here(model: str, own: Collection[str] = ()) -> ModelShape:
    """The shape of a model that is known, that a preset or one of the `own` names, or that the Hub gave before.

    Raises ConfigError, in the same words for all else: nothing is opened and nobody is asked for a name that a
    user made up, so no one learns what lies where on this machine.
    """
    if model in KNOWN:
        return KNOWN[model]
    named = model in {*_preset_models(), *own} and not model.startswith(("//", "\\\\"))  # those are other machines'
    path = Path(model_source(model)) / "config.json" if named else None
    for described in (path, _downloaded(model)):
        try:
            if described is not None and described.is_file():
                return _whole(shape_from_config(model, json.loads(described.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, ConfigError):
            continue
    raise ConfigError(
        f"policy.model: {_short(model)!r} is not known here, and the page opens no folders and asks no one outside; "
        f"choose a model of about its size, or plan it in a terminal with {PROGRAM} --model NAME"
    )


def _downloaded(model: str) -> Path | None:
    """The config.json of a Hub model that was downloaded before; None too for what cannot be a Hub id."""
    if len(model) > LONGEST_NAME:
        return None
    from huggingface_hub import try_to_load_from_cache  # late: it is slow to import
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _whole(shape: ModelShape) -> ModelShape:
    """The shape, if its sizes are sizes. Raises TypeError."""
    sizes = (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim, shape.mlp, shape.vocabulary)
    if not all(isinstance(size, int) and 0 < size < 10**7 for size in sizes):
        raise TypeError("sizes should be whole numbers")
    return shape


def models(own: Collection[str] = ()) -> list[tuple[str, str]]:
    """Labels and names of the models that can be picked."""
    names = dict.fromkeys([*KNOWN, *sorted(_preset_models()), *own])
    return [("tiny (ships in the package)", TINY), *((name, name) for name in names if name != TINY)]


@lru_cache(maxsize=1)
def _preset_models() -> frozenset[str]:
    return frozenset(_preset(name).policy.model for name in presets())


def _refuse_beyond_reason(changed: dict[str, Any]) -> None:
    for name, highest in HIGHEST.items():
        value = changed.get(name)
        if isinstance(value, (int, float)) and value > highest:
            raise ConfigError(f"{name}: should be at most {highest:,} (got {min(value, 1e300):g})")


def _layer(changed: dict[str, Any]) -> Layer:
    layer = Layer()
    for name, value in changed.items():
        section, _, key = name.partition(".")
        layer.values.setdefault(section, {})[key] = value
        layer.origins[(section, key)] = ""
    return layer


@lru_cache(maxsize=16)
def _preset(name: str) -> Config:
    return resolve([read_yaml(preset_path(name), f"presets/{name}.yaml")])


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
