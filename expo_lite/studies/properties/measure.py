"""A model and held-out problems in; means of the two properties, and three files that hold them, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError
from expo_lite.core.terminal import say
from expo_lite.runs.assemble import assemble, settle
from expo_lite.runs.display import PhaseDisplay
from expo_lite.runs.files import to_json, write_text
from expo_lite.runs.plots import plot_properties
from expo_lite.studies.properties.readings import TRAINED, MeanReading, markdown, summarise, unanswered
from expo_lite.studies.properties.text_kinds import read_all_kinds


def measure(
    config: Config, subject: str, sides: Sequence[str], folder: Path, console: Console
) -> tuple[list[MeanReading], list[str]]:
    """The rows of each side (BASE, TRAINED), read in turn from one set of weights, with notes on what was left out.

    Leaves properties.json, .md and .png in `folder`. Raises ExpoLiteError.
    """
    rows: list[MeanReading] = []
    with assemble(settle(config)) as parts:
        make_folder(folder)
        notes = list(parts.problems.notes)
        with PhaseDisplay(console) as display:
            for side in sides:
                say(console, f"Writing and reading texts ({side}) ...", style="dim")
                readings, left_out = read_all_kinds(parts, config, side == TRAINED, display.on_progress)
                rows += summarise(readings, side)
                notes += [f"{side}: {note}" for note in [*left_out, *unanswered(readings)]]
    record = {
        "subject": subject,
        "model": config.policy.model,
        "seed": config.seed,
        "temperature": config.rollout.temperature,
        "notes": notes,
        "rows": [asdict(row) for row in rows],
    }
    write_text(folder / "properties.json", to_json(record, indent=1) + "\n")
    write_text(folder / "properties.md", markdown(rows, subject, notes))
    plot_properties(record["rows"], folder / "properties.png")
    return rows, notes


def make_folder(folder: Path) -> None:
    """Raises ConfigError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--to: {folder} cannot be used ({error.strerror}); name another folder") from None
