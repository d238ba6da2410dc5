"""From the app's command line to what it opens: a model and adapters that fit it. Imports neither torch nor gradio."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import dataclass
from pathlib import Path

from expo_lite.app.run_list import Run, config_of, find_run, list_runs, titled, to_open
from expo_lite.config.flags import Parser
from expo_lite.config.presets import preset_path
from expo_lite.config.read import CONFIG_FILE, layers_of, read_config, resolve
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.model.adapter_files import read_settings, shaped_like
from expo_lite.runs.target import adapter_sources, run_around

LOGIN = "expo"
SHORTEST_PASSWORD = 8
LAST_PORT = 65535


@dataclass(frozen=True)
class Opening:
    """What the app shows: a configuration's model and problems, and where adapters for it are.

    `chosen` names the adapter to start with, where one was asked for; `own_adapter` is one given by its folder.
    """

    config: Config
    root: Path
    chosen: str | None = None
    own_adapter: Path | None = None
    has_problems: bool = True

    def adapters(self) -> dict[str, Path]:
        """Folders of the adapters that fit the model, by name: one given by its folder, then runs, newest first."""
        own = {self.own_adapter.name: self.own_adapter} if self.own_adapter else {}
        return own | {run.name: run.adapter for run in self._runs() if run.adapter is not None}

    def titles(self) -> dict[str, str]:
        """The adapters' names, each with the method that trained it where that is known."""
        own = {}
        if self.own_adapter is not None:
            run, name = run_around(self.own_adapter), self.own_adapter.name
            own = {name: titled(name, config) if run and (config := config_of(run)) else name}
        return own | {run.name: run.title for run in self._runs()}

    def starts_with(self) -> str:
        """The adapter to show first; empty if there is none.

        It is the one asked for, else of the newest finished run that explains itself, else of any finished run, else
        of one that goes on.
        """
        if self.chosen in self.adapters():
            return str(self.chosen)
        runs = self._runs()
        finished = [run for run in runs if run.state == "finished"]
        found = to_open(finished or runs)
        return found.name if found else ""

    def _runs(self) -> list[Run]:
        """Those whose adapter fits, newest first."""
        return [run for run in list_runs(self.root) if run.adapter is not None and fits(run.config, self.config)]


@dataclass(frozen=True)
class Options:
    """A read command line."""

    opening: Opening
    port: int | None
    share: bool
    password: str | None


def read_options(argv: list[str]) -> Options:
    """Read the command line. Raises ConfigError; `--help` prints the help and exits."""
    parser = Parser(
        prog="python app.py", description="Before, after, and why: ExPO in the browser.", allow_abbrev=False
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--run", metavar="DIR", help="show the model of this run")
    way.add_argument("--preset", metavar="NAME", help="show the model of this preset (without anything: tiny)")
    way.add_argument("--adapter", metavar="DIR", help="show this adapter, a folder that PEFT wrote")
    parser.add_argument("--root", metavar="DIR", help="the folder of runs that users may look at (runs)")
    parser.add_argument("--port", type=int, metavar="N", help="port on this machine (the first free from 7860)")
    parser.add_argument("--share", action="store_true", help="also through a public link, for those with the password")
    parser.add_argument(
        "--password", metavar="WORD", help=f"asked of users, with the name {LOGIN} (--share makes one up)"
    )
    given = parser.parse_args(argv)
    if given.password is not None and len(given.password) < SHORTEST_PASSWORD:
        raise ConfigError(f"--password: should have at least {SHORTEST_PASSWORD} characters")
    if given.port is not None and not 0 < given.port <= LAST_PORT:
        raise ConfigError(f"--port: should be from 1 to {LAST_PORT} (got {given.port})")
    password = given.password or (secrets.token_urlsafe(12) if given.share else None)
    return Options(_opening(given), given.port, given.share, password)


def _opening(given: argparse.Namespace) -> Opening:
    root = Path(given.root or "runs").expanduser()
    if given.run is not None:
        return open_run(Path(given.run).expanduser(), root if given.root else None)
    if given.adapter is not None:
        return open_adapter(Path(given.adapter).expanduser(), root)
    return Opening(read_config(preset_path(given.preset or "tiny")), root)


def open_run(folder: Path, root: Path | None) -> Opening:
    """A run's own model; its parent folder is the root, unless given. Raises ConfigError."""
    folder = folder.resolve()
    if root is not None and folder.parent != root.resolve():
        raise ConfigError(f"--run: {folder} is not directly below --root {root}")
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"--run: there is no run in {folder}")
    try:
        run = find_run(folder.parent, folder.name)
    except DataError:
        raise ConfigError(f"--run: {folder} was written by another version, or is linked to files elsewhere") from None
    if run.adapter is None:
        return Opening(run.config, root or folder.parent)
    return Opening(shaped_like(run.adapter, run.config), root or folder.parent, run.name)


def open_adapter(folder: Path, root: Path) -> Opening:
    """An adapter with its run's settings if it still lies in a run, else with the base it names. Raises ConfigError."""
    folder = folder.resolve()
    try:
        read_settings(folder)
        sources, has_problems = adapter_sources(folder)
    except ConfigError as error:
        raise ConfigError(f"--adapter: {folder} holds no adapter that PEFT wrote ({error})") from None
    return Opening(resolve(layers_of(sources)), root, folder.name, folder, has_problems)


def fits(of_run: Config, shown: Config) -> bool:
    """Whether a run's adapter can be shown on the model in use, under its own prompts and judge."""
    same = ("model", "quantization", "lora_rank", "lora_alpha")
    alike = of_run.prompt == shown.prompt and of_run.reward == shown.reward
    return alike and all(getattr(of_run.policy, n) == getattr(shown.policy, n) for n in same)
