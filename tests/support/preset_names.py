"""The presets for a card; the others run on a CPU."""

from __future__ import annotations

from expo_lite.config.presets import preset_path, presets
from expo_lite.config.read import read_config

CARD_PRESETS = [name for name in presets() if read_config(preset_path(name)).policy.device == "cuda"]
