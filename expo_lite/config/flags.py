"""The command line of a run: which preset and file, and one flag for every setting; and the way back to words."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, get_origin

from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from expo_lite.config.messages import as_text, settings, unknown_setting
from expo_lite.config.presets import preset_table
from expo_lite.config.settings import Config
from expo_lite.config.yaml_file import KeyPath, Layer
from expo_lite.core.errors import ConfigError
from expo_lite.core.terminal import tell

OWN_FLAGS = ("preset", "config", "resume", "dry_run")


@dataclass(frozen=True)
class Sources:
    """Where settings come from, named but not yet read: a preset, then a file over it, then `layer`."""

    preset: str | None = None
    config: str | None = None
    resume: bool = False
    dry_run: bool = False
    layer: Layer = field(default_factory=Layer)


class _Settings(Config, BaseSettings):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Every setting can be given here, in a preset or in a file; later ones win: preset, file, flags."""

    # what pydantic-settings asks for to make flags of; runs are validated as plain `Config`s
    model_config = SettingsConfigDict(extra="forbid", frozen=True)


class Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would print its usage and exit; help breaks between words."""

    def print_help(self, file: Any = None) -> None:
        tell(self.format_help().rstrip("\n"), file)

    def error(self, message: str) -> NoReturn:
        said = message.removeprefix("argument ").replace("at least one", "one")
        said = said.replace("expected one argument", "needs a value")
        if said == "--preset: needs a value":
            said = f"--preset: name one of these:\n{preset_table()}"
        raise ConfigError(said)


def read_flags(argv: list[str], prog: str) -> Sources:
    """Read a command line. `--help` prints the help and exits.

    Raises:
        ConfigError: a flag stands without its value. All else that is wrong is in `layer.problems`.
    """
    parser, source = _parser(prog)
    given, rest = parser.parse_known_args([_kebab(token) for token in argv])
    values = vars(given)
    own = {name: values.pop(name) for name in OWN_FLAGS}
    layer = Layer(problems=_leftovers(rest))
    for name, value in values.items():
        _add_setting(layer, source, name, value)
    return Sources(layer=layer, **own)


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Settings by dotted name as the words of a command line, for another process."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", as_text(value))]


def _parser(prog: str) -> tuple[argparse.ArgumentParser, CliSettingsSource[Any]]:
    parser = Parser(
        prog=prog,
        usage="%(prog)s [--preset NAME] [--config FILE] [--resume] [--dry-run] [--SETTING VALUE ...]",
        description=_Settings.__doc__,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=help_width()),
        allow_abbrev=False,
    )
    parser.add_argument("--preset", metavar="NAME", help="start from a preset; `expo-lite presets` lists them")
    parser.add_argument("--config", metavar="FILE", help="a YAML file of settings, also a run's own config.yaml")
    parser.add_argument("--resume", action="store_true", help="continue the run in its folder from its last checkpoint")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration and stop")
    source = CliSettingsSource(
        _Settings,
        root_parser=parser,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str="null",
        cli_use_class_docs_for_groups=True,
    )
    for action in parser._actions:
        if info := settings().get(action.dest):
            # pydantic-settings shows defaults as Python writes them, and sets in an order that changes
            action.help = f"{info.description} (default: {as_text(info.default)})".replace("%", "%%")
            if get_origin(info.annotation) in (frozenset, tuple):
                action.nargs, action.metavar = "+", (str(action.metavar), "")  # several words are a list, too
    return parser, source


def help_width() -> int:
    """Columns for help: 110, in a narrower terminal as many as it has, less two."""
    return min(110, shutil.get_terminal_size((112, 24)).columns - 2)


def _kebab(token: str) -> str:
    """Accept `--rollout.group_size` as `--rollout.group-size`; values after = stay as they are."""
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    return name.replace("_", "-") + equals + value


def _leftovers(tokens: list[str]) -> list[str]:
    """Messages for what the parser did not know; the word after an unknown flag is taken as its value."""
    problems: list[str] = []
    value_may_follow = False
    for token in tokens:
        is_flag = token.startswith("-") and token != "-"
        if is_flag:
            name = token.lstrip("-").partition("=")[0].replace("-", "_")
            problems.append(unknown_setting(name, OWN_FLAGS))
        elif not value_may_follow:
            problems.append(f"{token}: unexpected word on the command line (settings are written --name value)")
        value_may_follow = is_flag and "=" not in token
    return problems


def _add_setting(layer: Layer, source: CliSettingsSource[Any], name: str, value: Any) -> None:
    """Decode one flag at a time: pydantic-settings stops at the first that it cannot decode."""
    path: KeyPath = tuple(name.split("."))
    if isinstance(value, list):  # of what was given each time, which for lists is one of words
        value = [word for words in value for word in ([words] if isinstance(words, str) else words)]
    try:
        decoded = source(parsed_args={name: value})()
    except (SettingsError, ValueError):
        shown = value[-1] if isinstance(value, list) else value
        layer.problems.append(f"{name}: should be like 1=1,5=3 or a,b or JSON (got {shown!r})")
        return
    for key in path[:-1]:
        decoded = decoded.get(key, {})
    target = layer.values
    for key in path[:-1]:
        target = target.setdefault(key, {})
    if path[-1] in decoded:
        target[path[-1]] = decoded[path[-1]]
        layer.origins[path] = ""
