"""What a Jupyter or Colab notebook needs: lines instead of a moving bar, and a picture that is renewed in place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

WIDTH = 110  # columns


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def console() -> Console:
    """Where progress is shown."""
    return Console(force_jupyter=False, force_terminal=False, width=WIDTH) if in_notebook() else Console()


def live_picture() -> Callable[[Path], None] | None:
    """In a notebook: shows a picture below the cell, each time in the place of the last. None elsewhere."""
    if not in_notebook():
        return None
    from IPython.display import DisplayHandle, Image  # type: ignore[import-not-found]

    handle = DisplayHandle()
    shown: list[Path] = []

    def show(path: Path) -> None:
        (handle.update if shown else handle.display)(Image(data=path.read_bytes()))
        shown.append(path)

    return show
