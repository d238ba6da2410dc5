"""Where things lie on this machine is not for users: links that leave the root are not followed, paths are cut.

Imports neither torch nor gradio.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from expo_lite.runs.folder import RunDir

_FOLDERS = re.compile(r"(?<![\w.:/~])/(?:[^\s/\"']+/)+")
"""What stands before the last part of an absolute path."""


def lies_in(root: Path, name: str) -> bool:
    """Whether the entry of that name is truly directly below the root, and so is what a user may be shown of it.

    A link to a folder elsewhere is none of the root's, nor is a run whose files or adapter are links to elsewhere.
    """
    try:
        place = root.resolve()
        if (root / name).resolve().parent != place:
            return False
        return all(link.resolve().is_relative_to(place) for link in _links(RunDir(root / name)))
    except (OSError, RuntimeError):  # links in a circle among them
        return False


def without_places(text: str, root: Path) -> str:
    """The text with paths as seen from the root; of others without their folders, or from the home folder on."""
    for place, instead in ((root.resolve(), "."), (root.absolute(), "."), (Path.home(), "~")):
        if len(place.parts) > 1:
            text = re.sub(rf"(?<![\w.]){re.escape(str(place))}(?![\w-]|\.\w)", instead, text)
    return _FOLDERS.sub("…/", text)


def _links(run: RunDir) -> Iterator[Path]:
    """Symbolic links among the run's files and those of its adapter."""
    for folder in (run.path, run.adapter):
        if folder.is_dir():
            with os.scandir(folder) as entries:
                yield from (Path(entry) for entry in entries if entry.is_symlink())
