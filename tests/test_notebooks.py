"""The notebooks: clean, and run whole in a kernel; the Colab one with the tiny preset in place of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expo_lite.app.opening import read_options
from expo_lite.runs.folder import METRICS, RunDir

nbformat = pytest.importorskip("nbformat")
NotebookClient = pytest.importorskip("nbclient").NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SERVES = "serves"  # the tag of cells that would not end
PATIENCE = 280  # seconds for a cell


def opened(name: str) -> Any:
    return nbformat.read(next(path for path in NOTEBOOKS if path.stem == name), as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell: Any) -> str:
    """What a cell printed or showed as text."""
    return "".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs
    )


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes clients whose kernels find this Python's commands, and work in an empty folder."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EXPO_LITE_PRESET", "tiny")
    monkeypatch.setenv("EXPO_LITE_STEPS", "3")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    return lambda notebook: NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["expo_lite_colab", "expo_lite_tiny"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestAsCommitted:
    def test_without_outputs(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code(notebook))

    def test_the_first_cell_installs_and_imports_nothing_heavy(self, path: Path) -> None:
        first = code(nbformat.read(path, as_version=4))[0].source
        imports = [line for line in first.splitlines() if line.startswith(("import ", "from "))]
        assert (
            imports == ["import importlib.util", "import sys", "from pathlib import Path"] and "%pip install" in first
        )
        assert "torch==" not in first and "--upgrade" not in first  # a torch that fits stays

    def test_the_badge_names_the_notebook(self, path: Path) -> None:
        assert f"/notebooks/{path.name})" in nbformat.read(path, as_version=4).cells[0].source


def test_what_is_not_run_can_be_read() -> None:
    """The command that opens a public link: its flags are the app's."""
    cells = [cell for path in NOTEBOOKS for cell in code(nbformat.read(path, as_version=4)) if SERVES in tags(cell)]
    (command,) = [cell.source for cell in cells]
    assert command == "!expo-lite app --run {trainer.run} --share"
    assert read_options(["--preset", "tiny", "--share"]).password


def tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tiny(client: Any, tmp_path: Path) -> None:
    notebook = client(opened("expo_lite_tiny")).execute()
    *_, last, scores, _ = code(notebook)
    pictures = [o for cell in code(notebook) for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 4 and any("image/png" in output.get("data", {}) for output in last.outputs)
    runs = {path.name: RunDir(path) for path in (tmp_path / "runs").iterdir()}
    assert {name: run.read_status()["state"] for name, run in runs.items()} == {
        "notebook-grpo": "finished",
        "notebook-expo": "finished",
    }
    explained = next(cell for cell in code(notebook) if cell.source.startswith("expo.explain"))
    assert any("text/markdown" in output.get("data", {}) for output in explained.outputs)
    table = next(output.data["text/markdown"] for output in scores.outputs if "data" in output)
    hardest = next(line for line in table.splitlines() if line.startswith("| 5 (32) | 1 |"))
    assert float(hardest.split("|")[4].split("[")[0]) > 40  # the adapter; it said 90 and more when this was written


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_colab_with_the_tiny_preset(client: Any, tmp_path: Path) -> None:
    notebook = opened("expo_lite_colab")
    notebook.cells = [cell for cell in notebook.cells if SERVES not in tags(cell)]
    client(notebook).execute()
    said = "\n".join(text(cell) for cell in code(notebook))
    assert "step 3 of 3, finished: runs/tiny" in said and "Traceback" not in said and "error" not in said.lower()
    assert (tmp_path / "runs" / "exported" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_cell_goes_on(client: Any, tmp_path: Path) -> None:
    """The stop button in the middle of training; then the same cell again."""
    notebook = opened("expo_lite_colab")
    cells = [cell for cell in code(notebook) if SERVES not in tags(cell)]
    number = next(n for n, cell in enumerate(cells) if "trainer.train()" in cell.source)
    notebook.cells = [cell for n, cell in enumerate(cells[: number + 1]) if not cell.source.startswith("!")]
    notebook.cells[1].source += "\nSTEPS = 12"
    run = RunDir(tmp_path / "runs" / "tiny")
    running = client(notebook)
    training = notebook.cells[-1]

    def stop_after_two_steps() -> None:
        while len(run.read(METRICS)) < 2:
            time.sleep(0.05)
        os.kill(running.km.provisioner.pid, signal.SIGINT)

    with running.setup_kernel():
        for index, cell in enumerate(notebook.cells[:-1]):
            running.execute_cell(cell, index)
        threading.Thread(target=stop_after_two_steps, daemon=True).start()
        running.execute_cell(training, len(notebook.cells) - 1)
        assert "stopped; train() goes on from here" in text(training)
        running.execute_cell(training, len(notebook.cells) - 1)
        assert "step 12 of 12, finished" in text(training)
    assert [record["step"] for record in run.read(METRICS)] == list(range(1, 13))
