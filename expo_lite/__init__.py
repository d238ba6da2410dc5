"""ExPO on one small GPU, or a CPU. Importing this loads nothing heavy; names are loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expo_lite.commands.from_python import ExPOTrainer, load_config
    from expo_lite.config.settings import Config
    from expo_lite.core.errors import ExpoLiteError

__all__ = ["Config", "ExPOTrainer", "ExpoLiteError", "load_config"]

_WHERE = {
    "ExPOTrainer": "commands.from_python",
    "load_config": "commands.from_python",
    "Config": "config.settings",
    "ExpoLiteError": "core.errors",
}

try:
    __version__ = version("expo-lite")
except PackageNotFoundError:  # a bare checkout that is on the path but not installed
    __version__ = "0+unknown"

del PackageNotFoundError, version


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'expo_lite' has no attribute {name!r}")
    return getattr(import_module(f"expo_lite.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
