"""Preset, file and flags -> one validated `Config`. Later layers win: defaults, preset, file, flags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from expo_lite.config.flags import Sources, read_flags
from expo_lite.config.messages import messages, sections
from expo_lite.config.presets import preset_path
from expo_lite.config.settings import Config
from expo_lite.config.yaml_file import KeyPath, Layer, read_yaml
from expo_lite.core.errors import ConfigError

CONFIG_FILE = "config.yaml"
"""In a run's folder, all that it was asked for."""
NAMES_A_MODEL = ("--preset", "--config", "--policy.model", "--resume")


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    config: Config
    preset: str | None
    resume: bool
    dry_run: bool


class _Dumper(yaml.SafeDumper):
    """Writes text with line breaks or other unprintable characters in double quotes, escaped.

    PyYAML's own choice does not read back for the rarer line breaks (U+0085, U+2028).
    """

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def read_request(argv: list[str], prog: str = "python -m expo_lite.train") -> Request:
    """Read and validate a command line with the preset and the file that it names.

    Raises:
        ConfigError: with every error of preset, file and flags, one per line.
    """
    given = read_flags(argv, prog)
    return Request(resolve(layers_of(given)), given.preset, given.resume, given.dry_run)


def require_a_model(argv: list[str]) -> None:
    """Raises ConfigError where a command line names nothing that settles the model.

    The defaults alone would be a tiny model with the settings of a large one.
    """
    if not any(token.split("=")[0] in NAMES_A_MODEL for token in argv):
        raise ConfigError("preset: name one; `--preset tiny` runs on a CPU, `expo-lite presets` lists all")


def resolve(layers: Iterable[Layer]) -> Config:
    """Merge the layers, later over earlier, and validate the result once.

    Raises:
        ConfigError: with every error, one per line.
    """
    merged = Layer()
    for layer in layers:
        merged.problems += layer.problems
        for key, value in layer.values.items():
            _merge_key(merged, layer, key, value)
    try:
        config = Config.model_validate(merged.values)
    except ValidationError as error:
        raise ConfigError("\n".join(merged.problems + messages(error, merged.origins))) from None
    if merged.problems:
        raise ConfigError("\n".join(merged.problems))
    return config


def read_config(path: Path) -> Config:
    """The configuration of one file, for instance a run's own config.yaml.

    Raises:
        ConfigError: with every error, one per line.
    """
    return resolve([read_yaml(path, str(path))])


def dump_yaml(config: Config) -> str:
    """The whole configuration as YAML that `--config` reads back to an equal one."""
    return yaml.dump(_plain(config.model_dump()), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def layers_of(given: Sources) -> list[Layer]:
    """Preset, file and flags as layers, the later over the earlier; what cannot be read is in their `problems`."""
    layers: list[Layer] = []
    if given.preset is not None:
        try:
            layers.append(read_yaml(preset_path(given.preset), f"presets/{given.preset}.yaml"))
        except ConfigError as error:
            layers.append(Layer(problems=[str(error)]))
    file = given.config if given.config is not None else _resumed_config(given)
    if file is not None:
        layers.append(read_yaml(Path(file).expanduser(), file))
    return [*layers, given.layer]


def _resumed_config(given: Sources) -> str | None:
    """With only `--resume --run FOLDER`, the folder's own config.yaml; a missing one is for `start_run` to report."""
    run = given.layer.values.get("run")
    if not given.resume or given.preset is not None or not isinstance(run, str):
        return None
    path = Path(run).expanduser() / CONFIG_FILE
    return str(path) if path.is_file() else None


def _merge_key(merged: Layer, layer: Layer, key: str, value: Any) -> None:
    """Sections merge setting by setting; a setting's value (also `data.levels`) is replaced as a whole."""
    if key in sections() and value is None:  # `rollout:` with all its lines commented out
        return
    if key in sections() and isinstance(value, dict) and isinstance(merged.values.get(key, {}), dict):
        target = merged.values.setdefault(key, {})
        for name, inner in value.items():
            target[name] = inner
            _move_origins(merged, layer, (key, str(name)))
    else:
        merged.values[key] = value
        _move_origins(merged, layer, (str(key),))


def _move_origins(merged: Layer, layer: Layer, path: KeyPath) -> None:
    size = len(path)
    kept = {place: origin for place, origin in merged.origins.items() if place[:size] != path}
    moved = {place: origin for place, origin in layer.origins.items() if place[:size] == path}
    merged.origins = kept | moved


def _plain(value: Any) -> Any:
    """Only what every YAML reader knows; sets sorted, so that equal configurations give equal files."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value
