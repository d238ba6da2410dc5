"""The presets that ship with the package: where they are, and their names."""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path

from expo_lite.core.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
_BUDGET = re.compile(r"^ +budget_gib: *([\d.]+)", re.MULTILINE)


def preset_folder(package: Path = _PACKAGE) -> Path:
    """The folder of presets: a checkout's own, else the copy inside the installed package.

    A checkout (also behind `pip install -e`) is known by its pyproject.toml. It comes first, so that
    a copy left in the package by some build cannot shadow the file that is being edited.
    """
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "presets").is_dir():
        return checkout / "presets"
    return package / "presets"


def presets() -> list[str]:
    """Names of the presets, those that need the least memory first: tiny, 8gb, 12gb ..."""
    paths = preset_folder().glob("*.yaml")
    return [path.stem for path in sorted(paths, key=lambda path: (_budget(path), path.stem))]


def _budget(path: Path) -> float:
    """The memory.budget_gib of a preset; those that name none come last."""
    found = _BUDGET.search(path.read_text(encoding="utf-8"))
    return float(found[1]) if found else math.inf


def preset_for(gib: float, above: float) -> str | None:
    """The preset that needs most of a card with `gib`, if it needs more than `above`."""
    budgets = {path.stem: _budget(path) for path in preset_folder().glob("*.yaml")}
    fit = {name: budget for name, budget in budgets.items() if above < budget < gib + 0.5}  # a "24 GB" card has 23.6
    return max(fit, key=fit.__getitem__, default=None)


def preset_path(name: str) -> Path:
    """The file of a preset.

    Raises:
        ConfigError: there is no such preset; the message lists those there are.
    """
    known = presets()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"preset: there is no preset {name!r} ({hint}available: {', '.join(known) or 'none'})")
    return preset_folder() / f"{name}.yaml"


def preset_summary(name: str) -> str:
    """What a preset is for: its file's first comment line.

    Raises:
        ConfigError: there is no such preset.
    """
    first = preset_path(name).read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def preset_table() -> str:
    """Every preset and what it is for, a line each."""
    names = presets()
    width = max(map(len, names), default=0)
    return "\n".join(f"  {name:{width}}  {preset_summary(name)}" for name in names)


def copy_preset(name: str, target: Path) -> None:
    """Write a preset with its comments to a new file.

    Raises:
        ConfigError: there is no such preset, the file exists already or cannot be written.
    """
    text = preset_path(name).read_text(encoding="utf-8")
    try:
        with open(target, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{target} already exists; choose another name") from None
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror})") from None
