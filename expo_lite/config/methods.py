"""The paper's systems by name, and the settings that make each of them."""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.config.dotted import value_of
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError


@dataclass(frozen=True)
class Method:
    """One system: what it is called, and the settings, by dotted name, in which it differs from the others."""

    title: str
    settings: dict[str, str]

    @property
    def beside_defaults(self) -> dict[str, str]:
        """The settings to give where nothing else sets them; the source of explanations always."""
        default = Config()
        return {n: v for n, v in self.settings.items() if n == "explanation.source" or value_of(default, n) != v}


def _grpo(title: str, source: str, gate: str) -> Method:
    return Method(title, {"objective.name": "grpo", "explanation.source": source, "explanation.gate": gate})


def _dpo(title: str, source: str, pairs: str) -> Method:
    return Method(title, {"objective.name": "dpo", "explanation.source": source, "dpo.pairs": pairs})


METHODS = {
    "grpo": Method("GRPO", {"objective.name": "grpo", "explanation.source": "none"}),
    "expert": _grpo("GRPO SFT-GT-CoT", "expert", "failed"),
    "expert-every": _grpo("GRPO SFT-GT-CoT, every prompt", "expert", "every"),
    "expo": _grpo("ExP-GRPO", "self", "failed"),
    "expo-every": _grpo("ExP-GRPO, every prompt", "self", "every"),
    "dpo-offline": _dpo("ExP-DPO, offline", "self", "offline"),
    "dpo-online": _dpo("ExP-DPO, online", "self", "online"),
    "dpo-expert-offline": _dpo("DPO with expert solutions, offline", "expert", "offline"),
    "dpo-expert-online": _dpo("DPO with expert solutions, online", "expert", "online"),
}
"""Every system that a valid configuration can be, by its short name."""


def require_an_initial_policy(config: Config) -> None:
    """Raises ConfigError where offline pairs cannot be made: only the base stays as it is while an adapter is trained.

    A run's own adapter can still be opened with its settings, to be looked at.
    """
    if config.objective.name == "dpo" and config.dpo.pairs == "offline" and config.policy.adapter is not None:
        raise ConfigError("policy.adapter: offline pairs are made by the base alone; use dpo.pairs online with it")


def method_of(config: Config) -> str:
    """The short name of the system that a configuration trains."""
    now = {
        "objective.name": config.objective.name,
        "explanation.source": config.explanation.source,
        "explanation.gate": config.explanation.gate,
        "dpo.pairs": config.dpo.pairs,
    }
    return next(name for name, method in METHODS.items() if method.settings.items() <= now.items())
