"""Run the notebooks for a CPU and keep their outputs, without traces of this machine.

`python -m scripts.notebooks` runs both, `python -m scripts.notebooks expo_lite_tiny` that one.
The Colab notebook is shipped without outputs: they would be a T4's, where it has not been run yet.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
ON_A_CPU = ("expo_lite_tiny", "expo_lite_smol")
KEY = "outputs_of"
"""In a notebook's metadata: the digest of the code that its outputs are of."""
TIMING = re.compile(r"\d:\d\d:\d\d|tok/s|\b\d[\d.]* (?:s|min|h)\b")
MACHINE = re.compile(r"/(?:home|root|tmp|work|usr|opt|Users|private|var|content)/|\\\\Users|site-packages|\.venv")
COLOURS = 256  # of a picture's palette: with 64 the blends of overlapping bands took the place of failed's rust


def code(notebook: Any) -> list[Any]:
    """The code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell: Any) -> str:
    """What a cell printed or showed, as text; a table as Markdown."""
    shown = (output.get("data", {}) for output in cell.outputs)
    texts = [data.get("text/markdown") or data.get("text/plain", "") for data in shown]
    return "\n".join(filter(None, [*(output.get("text", "") for output in cell.outputs), *texts]))


def digest(notebook: Any) -> str:
    """Of the code, but for the first cell: how the package gets here changes no output."""
    return hashlib.sha256("\n\n".join(cell.source for cell in code(notebook)[1:]).encode()).hexdigest()[:16]


def execute(notebook: Any, folder: Path) -> Any:
    """Run all cells in `folder`, with this Python and this checkout."""
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    where = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=3600, kernel_name="python3", record_timing=False, resources=where).execute()


def cleaned(notebook: Any) -> Any:
    """The notebook without progress, timings and warnings in its outputs, with small pictures and its code's digest."""
    for cell in code(notebook):
        cell.metadata.pop("execution", None)
        cell.outputs = _joined([output for output in map(_cleaned, cell.outputs) if output is not None])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "expo_lite": {KEY: digest(notebook)},
    }
    return notebook


def _cleaned(output: Any) -> Any:
    if output.output_type == "stream":
        lines = output.text.splitlines(keepends=True)
        output.text = "".join(line for line in lines if not TIMING.search(line))
        return output if output.name == "stdout" and output.text.strip() else None
    if picture := output.get("data", {}).get("image/png"):
        output.data["image/png"] = _small(picture)
        output.metadata = {}
    return output


def _joined(outputs: list[Any]) -> list[Any]:
    """Neighbouring pieces of printed text as one."""
    found: list[Any] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def _small(picture: str) -> str:
    """A PNG in base64, with a palette."""
    packed = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        opened.convert("RGB").quantize(COLOURS).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def main(names: Sequence[str] = ON_A_CPU) -> None:
    """Make the outputs anew, in place."""
    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        with TemporaryDirectory() as folder:
            notebook = cleaned(execute(nbformat.read(path, as_version=4), Path(folder)))
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:] or ON_A_CPU)
