"""The console command: `expo-lite NAME ...` is `python -m expo_lite.NAME ...`."""

from __future__ import annotations

import difflib
import importlib
import sys

from expo_lite import __version__, entry
from expo_lite.errors import ConfigError
from expo_lite.preset_files import preset_summary, presets

COMMANDS = {
    "train": "train a model, as a preset, a file and flags say",
    "app": "show before, after and why in the browser",
    "plan": "say whether a run fits a GPU, before anything is loaded",
}
"""Entry points with what they do; each name is a module with `main(argv) -> exit status`."""

_USAGE = "usage: expo-lite COMMAND ...        (expo-lite COMMAND --help says more)"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status."""
    return entry.run(lambda: _dispatch(sys.argv[1:] if argv is None else argv))


def _dispatch(argv: list[str]) -> int | None:
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        print(f"expo-lite {__version__}")
    elif name == "presets":
        print(_table({preset: preset_summary(preset) for preset in presets()}))
    elif name in COMMANDS:
        return importlib.import_module(f"expo_lite.{name}").main(rest)
    else:
        raise ConfigError(_unknown(name))
    return 0


def _help() -> str:
    return f"{_USAGE}\n\n{_table({**COMMANDS, 'presets': 'list the presets'})}"


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {name:{width}}  {text}" for name, text in rows.items())


def _unknown(name: str) -> str:
    known = [*COMMANDS, "presets"]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"available: {', '.join(known)}"
    return f"expo-lite: there is no command {name!r} ({hint})"


if __name__ == "__main__":
    sys.exit(main())
