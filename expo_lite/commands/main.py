"""`expo-lite NAME ...`, which is also `python -m expo_lite NAME ...`: a name in, what its file here does out."""

from __future__ import annotations

import difflib
import importlib
import shlex
import sys
from pathlib import Path

from expo_lite import __version__
from expo_lite.config import process_setup
from expo_lite.config.presets import copy_preset, preset_table
from expo_lite.core.errors import ConfigError
from expo_lite.core.terminal import tell

COMMANDS = {
    "train": "train a model, as a preset, a file and flags say",
    "study": "train several methods and seeds, and report on all",
    "evaluate": "score base and adapter on held-out problems: pass@k by level, with intervals",
    "export": "make a run's adapter, or base and adapter merged, a folder to share and to load elsewhere",
    "app": "show before, after and why in the browser",
    "doctor": "say why a run learns, or does not, and what to change",
    "plan": "say whether a run fits a GPU, before anything is loaded",
    "properties": "measure how likely explanations are to the model, and the true answer after them",
    "bug-report": "print versions and hardware for a bug report",
}
"""What each does; its `main(argv) -> exit status` is in the file of its name here."""
EARLIER = {"compare": "study", "env": "bug-report"}
"""Commands by the names that they once had, which still work."""

_USAGE = "usage: expo-lite COMMAND ...        (expo-lite COMMAND --help says more)"

_PRESETS_USAGE = "usage: expo-lite presets        or: expo-lite presets copy NAME FILE.yaml"
_PRESETS_DO = "list the presets; `presets copy NAME FILE.yaml` gives you one to change"


@process_setup.command
def main(argv: list[str]) -> int | None:
    """Run one command."""
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        tell(_help())
    elif name == "--version":
        print(f"expo-lite {__version__}")
    elif name == "presets":
        tell(_presets(rest))
    elif (now := EARLIER.get(name, name)) in COMMANDS:
        if now != name:
            print(f"expo-lite {name} is called expo-lite {now} now", file=sys.stderr)
        return importlib.import_module(f"expo_lite.commands.{now.replace('-', '_')}").main(rest)
    else:
        raise ConfigError(_unknown(name))
    return 0


def _presets(words: list[str]) -> str:
    """The list of presets, or what became of `copy NAME FILE`."""
    if not words:
        return preset_table()
    if words[0] != "copy" or len(words) != 3:
        if words[0] in ("-h", "--help"):
            return _PRESETS_USAGE
        raise ConfigError(_PRESETS_USAGE)
    copy_preset(words[1], Path(words[2]).expanduser())
    return f"To train with it: python -m expo_lite.train --config {shlex.quote(words[2])}"


def _help() -> str:
    rows = {**COMMANDS, "presets": _PRESETS_DO}
    width = max(map(len, rows))
    return "\n".join([_USAGE, "", *(f"  {name:{width}}  {text}" for name, text in rows.items())])


def _unknown(name: str) -> str:
    known = [*COMMANDS, "presets"]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"available: {', '.join(known)}"
    return f"expo-lite: there is no command {name!r} ({hint})"
