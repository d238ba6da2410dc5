"""Measure the two properties of the paper: `expo-lite properties RUN`, or `--preset tiny`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from expo_lite.config import process_setup
from expo_lite.config.dotted import replaced
from expo_lite.config.flags import Parser
from expo_lite.config.hub import hub_names, offline_if_unreachable
from expo_lite.config.read import read_config, read_request, require_a_model
from expo_lite.config.settings import Config
from expo_lite.config.versions import require_tested
from expo_lite.core.errors import ConfigError
from expo_lite.core.terminal import say
from expo_lite.model.adapter_files import shaped_like
from expo_lite.model.unsloth import import_early
from expo_lite.runs.folder import RunDir
from expo_lite.studies.properties.readings import BASE, TRAINED, tables


@dataclass(frozen=True)
class PropertiesRequest:
    """A read command line; `sides` are read in turn, from one set of weights."""

    config: Config
    subject: str
    sides: tuple[str, ...]
    folder: Path


@process_setup.command
def main(argv: list[str]) -> None:
    """Measure as the command line says."""
    asked = read_command(argv)
    require_tested()
    import_early(asked.config.policy)
    offline_if_unreachable(hub_names(asked.config))
    from expo_lite.studies.properties.measure import measure  # late: --help and mistakes are answered without torch

    console = Console()
    rows, notes = measure(asked.config, asked.subject, asked.sides, asked.folder, console)
    for table in tables(rows):
        console.print(table)
    for line in [*notes, f"{asked.folder / 'properties.md'}, .json and .png"]:
        say(console, line)


def read_command(argv: list[str]) -> PropertiesRequest:
    """Read a command line. `--help` prints the help and exits.

    Raises ConfigError for what it cannot be; a run's own settings cannot be changed.
    """
    parser = _parser()
    given, rest = parser.parse_known_args(argv)
    if not rest:
        raise ConfigError("RUN: name a run's folder (runs/NAME), or a preset (--preset tiny)")
    if rest[0].startswith("-"):
        require_a_model(rest)
        request = read_request(rest, parser.prog)
        config, subject, sides = request.config, request.preset or request.config.policy.model, (BASE,)
        folder = Path("runs") / f"properties-{Path(subject).name}"
    else:
        if rest[1:]:
            raise ConfigError(f"RUN: {rest[0]} is measured with its own settings; leave out {' '.join(rest[1:])}")
        run = RunDir(rest[0])
        config, subject, sides, folder = config_of(run), str(run.path), (BASE, TRAINED), run.path / "properties"
    if given.problems is not None:
        if given.problems < 1:
            raise ConfigError(f"--problems: should be at least 1 (got {given.problems})")
        config = replaced(config, {"data.test_problems": given.problems})
    return PropertiesRequest(config, subject, sides, Path(given.to).expanduser() if given.to else folder)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="expo-lite properties",
        usage="%(prog)s [RUN | --preset NAME [--SETTING VALUE ...]] [--problems N] [--to DIR]",
        description="Measure on held-out problems how likely self-explanations, expert solutions and own attempts are "
        "to a model that is not told the answer, and how likely the true answer is after each.",
        epilog="RUN is a run's folder: the base and the trained model are measured. With --preset (or --config) the "
        "base is; every setting of a run can be given, python -m expo_lite.train --help lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--problems", type=int, metavar="N", help="test problems per level (data.test_problems)")
    parser.add_argument("--to", metavar="DIR", help="where to write (RUN/properties or runs/properties-PRESET)")
    return parser


def config_of(run: RunDir) -> Config:
    """The run's settings, with its adapter to go on from. Raises ConfigError where there is no run, or no adapter."""
    if not run.config.is_file():
        raise ConfigError(f"RUN: there is no run in {run.path}; name a run's folder, or a preset (--preset tiny)")
    if not run.adapter.is_dir():
        raise ConfigError(f"RUN: {run.path} has no adapter yet; it is saved at the run's first validation")
    return shaped_like(run.adapter, read_config(run.config))
