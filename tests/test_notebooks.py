"""The notebooks: their claims are those of their outputs, which are current, without traces of a machine, and come out
again where they are run; the Colab one with the tiny preset in place of its own."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.smol import fill_cache

from expo_lite.app.opening import read_options
from expo_lite.config.presets import preset_path
from expo_lite.config.read import read_config
from expo_lite.problems import arithmetic
from expo_lite.runs.folder import METRICS, RunDir
from scripts.address import address_in, derived, notebook_with, readme_with, with_address

nbformat = pytest.importorskip("nbformat")
NotebookClient = pytest.importorskip("nbclient").NotebookClient
from scripts.notebooks import KEY, MACHINE, ON_A_CPU, TIMING, cleaned, code, digest, said  # noqa: E402

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY, SMOL, COLAB = "expo_lite_tiny", "expo_lite_smol", "expo_lite_colab"
EXTRA = re.compile(r"\[(app|smol)\]")
SERVES = "serves"  # the tag of cells that would not end
PATIENCE = 280  # seconds for a cell


def opened(name: str) -> Any:
    return nbformat.read(next(path for path in NOTEBOOKS if path.stem == name), as_version=4)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes clients whose kernels find this Python's commands, and work in an empty folder."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return lambda notebook: NotebookClient(
        notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == [COLAB, SMOL, TINY]
    assert {*ON_A_CPU} == {SMOL, TINY}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestAsCommitted:
    def test_outputs_are_those_of_the_code(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        shown = [bool(cell.outputs) for cell in code(notebook)]
        if path.stem == COLAB:  # they would be a T4's
            assert not any(shown) and all(cell.execution_count is None for cell in code(notebook))
            assert "has not been measured on one yet, so this notebook is shipped without outputs" in (
                notebook.cells[0].source
            )
        else:
            assert notebook.metadata.expo_lite[KEY] == digest(notebook), "make notebooks"
            assert shown == [False, *[True] * (len(shown) - 2), False]  # all but installing and closing

    def test_no_trace_of_a_machine(self, path: Path) -> None:
        notebook = nbformat.read(path, as_version=4)
        assert not any(cell.metadata.get("execution") for cell in code(notebook))
        for output in (output for cell in code(notebook) for output in cell.outputs):
            assert output.output_type != "error" and output.get("name") != "stderr"
            data = {kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"}
            text = output.get("text", "") + json.dumps(data)
            assert not MACHINE.search(text) and not TIMING.search(text)

    def test_pictures_are_small(self, path: Path) -> None:
        pictures = [base64.b64decode(picture) for picture in pictures_of(nbformat.read(path, as_version=4))]
        assert all(len(picture) < 100_000 for picture in pictures)

    def test_the_first_cell_installs_and_imports_nothing_heavy(self, path: Path) -> None:
        first = code(nbformat.read(path, as_version=4))[0].source
        imports = [line for line in first.splitlines() if line.startswith(("import ", "from "))]
        assert (
            imports == ["import importlib.util", "import sys", "from pathlib import Path"] and "%pip install" in first
        )
        assert "torch==" not in first and "--upgrade" not in first  # a torch that fits stays

    @pytest.mark.parametrize(
        ("beside", "uploaded", "address", "source"),
        [
            ([], [], "https://github.com/a/b", "git+https://github.com/a/b"),
            (["expo_lite-0.1.0-py3-none-any.whl"], [], "https://github.com/a/b", "expo_lite-0.1.0-py3-none-any.whl"),
            (["expo-lite-main.zip"], [], "", "expo-lite-main.zip"),
            ([], ["expo_lite-0.1.0-py3-none-any.whl"], "", "expo_lite-0.1.0-py3-none-any.whl"),
        ],
    )
    def test_what_the_first_cell_installs(
        self, path: Path, beside: list[str], uploaded: list[str], address: str, source: str,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        for name in beside:
            (tmp_path / name).touch()
        assert EXTRA.sub("", install(path, address, uploaded, tmp_path, monkeypatch)).endswith(source)

    def test_in_a_checkout_it_installs_that(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "pyproject.toml").touch()
        (tmp_path / "notebooks").mkdir()
        found = install(path, "https://github.com/a/b", [], tmp_path / "notebooks", monkeypatch)
        assert EXTRA.sub("", found) == f"-e {tmp_path.resolve()}"


def install(path: Path, address: str, uploaded: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a notebook's first cell hands to pip in `folder`, where the package is not installed; Colab's dialog gives
    the `uploaded` files."""
    colab = ModuleType("google.colab")
    colab.files = type("Files", (), {"upload": staticmethod(lambda: dict.fromkeys(uploaded, b""))})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder)
    notebook = notebook_with(json.loads(path.read_text(encoding="utf-8")), path.name, address)
    first = next("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    names: dict[str, Any] = {}
    exec(first.replace("%pip install -q {source}", "pass"), names)
    return str(names["source"])


class TestTheAddress:
    KNOWN = "https://github.com/someone/expo-lite"

    def test_all_follows_from_pyproject(self) -> None:
        address = address_in((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        for path, text in derived(address).items():
            assert path.read_text(encoding="utf-8") == text, f"python -m scripts.address {address!r}"
            assert "_owner_" not in text and ("Open in Colab" in text) == bool(address)

    def test_one_place_sets_it_and_takes_it_back(self) -> None:
        pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        known = with_address(pyproject, self.KNOWN)
        assert address_in(known) == self.KNOWN and with_address(known, address_in(pyproject)) == pyproject
        readme = readme_with((ROOT / "README.md").read_text(encoding="utf-8"), self.KNOWN)
        to = "https://colab.research.google.com/github/someone/expo-lite/blob/main/notebooks"
        assert f"({to}/expo_lite_colab.ipynb)\nOr in a notebook" in readme
        for path, text in derived(self.KNOWN).items():
            if path.suffix == ".ipynb":
                first, install = json.loads(text)["cells"][:2]
                assert f"({to}/{path.name})\n" in first["source"][2] and first["source"][3] == "\n"
                assert f'REPOSITORY = "{self.KNOWN}"\n' in install["source"]


def pictures_of(notebook: Any) -> list[str]:
    shown = [output.get("data", {}).get("image/png") for cell in code(notebook) for output in cell.outputs]
    return [picture for picture in shown if picture]


def check_claims(notebook: Any) -> None:
    """What the tiny notebook says around its cells is what its outputs say."""
    grpo, failed, told, expo, after, curves, scores = (said(cell) for cell in code(notebook)[1:-1])
    assert "step 60 of 60, finished" in grpo and "step 60 of 60, finished" in expo  # "the same sixty steps"
    assert re.search(r"step +60  validation .*L4 +0 +L5 +0\n", grpo)  # "at 0 % as before"
    shares = {int(level): int(share) for level, share in re.findall(r"(\d): (\d+)", failed)}
    assert shares[4] == shares[5] == 100 and max(shares[1], shares[2], shares[3]) < 10
    assert "| before training (wrong) |" in told and "after training" not in told
    for shown in (told, after):
        assert (
            re.search(r"\| explanation.* \(correct\) \|", shown)
            and "| fit to train on | yes |" in shown
            and "note" not in shown
        )
    assert "| before training (wrong) |" in after and "| after training (correct) |" in after
    solved = {name: [int(n) for n in by_step.split(",")] for name, by_step in re.findall(r"(level .*): (.*)", curves)}
    learned, kept, still = solved.values()
    assert len(solved) == 3 and set(still) == {0} and learned[0] == 0 and learned[-1] > 80 and kept[-1] > 90
    second = [int(share) for share in re.findall(r"validation pass@1 %.*  L2 +(\d+)", expo)]
    assert min(second) < second[0] - 10 and second[-1] > 90  # "levels 2 and 3 fall, and come back"
    (fall,) = (cell.source for cell in notebook.cells if "It costs something on the way" in cell.source)
    assert f"level 3 to {min(kept)} % at step {10 * kept.index(min(kept))}, and come back" in fall
    hardest = next(line for line in scores.splitlines() if line.startswith("| 5 (32) | 1 |"))
    assert float(hardest.split("|")[4].split("[")[0]) > 80  # the adapter
    assert len(pictures_of(notebook)) == 4


def test_the_claims_of_the_tiny_notebook() -> None:
    check_claims(opened(TINY))


def test_the_claims_of_the_smol_notebook() -> None:
    """A problem that is held out, failed, and explained; most problems fail at first; what a reader can see of it."""
    told, trained, counts, after, scores = (said(cell) for cell in code(opened(SMOL))[1:-1])
    held_out = arithmetic.problems("sums", "test", 2, 5)
    assert held_out[0].question in told and "| before training (wrong) |" in told and "after training" not in told
    assert re.search(r"\| explanation.* \(correct\) \|", told) and "| fit to train on | yes |" in told
    answers = re.findall(r"before: +(\d+ \+ \d+) = (\d+) +after: +\d+ \+ \d+ = (\d+)", after)
    assert [f"What is {asked}?" for asked, _, _ in answers] == [p.question for p in held_out]
    assert not any(before == p.answer for (_, before, _), p in zip(answers, held_out, strict=True))
    assert sum(now == p.answer for (_, _, now), p in zip(answers, held_out, strict=True)) == 1  # "One of the five"
    assert "step 16 of 16, finished" in trained
    failed, rescued = map(int, re.findall(r"first 8 steps: (\d+) of 48 problems failed, (\d+)", counts)[0])
    assert failed > 24 and rescued > failed / 2
    gains = re.findall(r"\| [1-4] \(16\) \| [14] \|.*\| \+\d+ \[(.)\d+, \+\d+\] \|", scores)
    assert gains == ["+"] * 4 + ["-"] * 4  # intervals of levels 1 and 2 above 0, those of 3 and 4 not


def test_what_is_cleaned_away() -> None:
    from PIL import Image

    picture = io.BytesIO()
    Image.effect_noise((300, 300), 99).convert("RGB").save(picture, "PNG")
    png = base64.b64encode(picture.getvalue()).decode()
    new = nbformat.v4
    outputs = [
        new.new_output("stream", name="stdout", text="step  5  L1 100\n"),
        new.new_output("stream", name="stderr", text="a warning"),
        new.new_output(
            "stream", name="stdout", text="step  1/60  0:00:54 left\nDry pass: about 13 s.\nstep 10  L1 100\n"
        ),
        new.new_output("display_data", {"image/png": png}, metadata={"width": 1}),
        new.new_output("stream", name="stdout", text="rollouts  62/128  7349 tok/s\n"),
    ]
    cell = new.new_code_cell("1", outputs=outputs, metadata={"execution": {"iopub.status.busy": "now"}})
    notebook = cleaned(new.new_notebook(cells=[cell]))
    stream, image = notebook.cells[0].outputs
    assert stream.text == "step  5  L1 100\nstep 10  L1 100\n" and not notebook.cells[0].metadata and not image.metadata
    assert len(image.data["image/png"]) < len(png) and notebook.metadata.expo_lite[KEY] == digest(notebook)


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
    """Run again, it claims the same."""
    notebook = client(opened(TINY)).execute()
    check_claims(notebook)
    runs = {path.name: RunDir(path) for path in (tmp_path / "runs").iterdir()}
    assert {name: run.read_status()["state"] for name, run in runs.items()} == {
        "notebook-grpo": "finished",
        "notebook-expo": "finished",
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smol(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small: a step of its sixteen, one problem a level."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fill_cache(tmp_path / "cache")
    notebook = opened(SMOL)
    shorter = {
        "steps=16": 'steps=1, rollout={"group_size": 2}',
        '"test_problems": 4': '"test_problems": 1, "validation_problems": 1',
        "problems=16": "problems=1",
    }
    for cell in code(notebook):
        for full, less in shorter.items():
            cell.source = cell.source.replace(full, less)
    shown = "\n".join(said(cell) for cell in code(client(notebook).execute()))
    assert "step 1 of 1, finished" in shown and re.search(r"first 8 steps: [1-6] of 6 problems failed", shown)
    assert len(re.findall(r"\| [1-4] \(1\) \| [14] \|", shown)) == 8


def colab(steps: int) -> Any:
    """The Colab notebook with the tiny preset and fewer steps, without the cell that serves."""
    notebook = opened(COLAB)
    notebook.cells = [cell for cell in notebook.cells if SERVES not in tags(cell)]
    settings = next(cell for cell in notebook.cells if "\nSETTINGS = " in cell.source)
    assert f'PRESET = "colab-t4"\nSTEPS = {read_config(preset_path("colab-t4")).steps}' in settings.source
    settings.source += f'\nPRESET, STEPS = "tiny", {steps}'
    return notebook


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_colab_with_the_tiny_preset(client: Any, tmp_path: Path) -> None:
    notebook = client(colab(steps=3)).execute()
    shown = "\n".join(said(cell) for cell in code(notebook))
    assert "step 3 of 3, finished: runs/tiny" in shown and "Traceback" not in shown and "error" not in shown.lower()
    before_training = shown.partition("step 3 of 3")[0]
    assert re.search(r"About .* for 3 steps: an estimate within a factor of three", before_training)
    assert (tmp_path / "runs" / "exported" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_cell_goes_on(client: Any, tmp_path: Path) -> None:
    """The stop button in the middle of training; then the same cell again."""
    notebook = colab(steps=12)
    cells = code(notebook)
    number = next(n for n, cell in enumerate(cells) if "trainer.train()" in cell.source)
    notebook.cells = [cell for n, cell in enumerate(cells[: number + 1]) if not cell.source.startswith("!")]
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
        assert "stopped; train() goes on from here" in said(training)
        running.execute_cell(training, len(notebook.cells) - 1)
        assert "step 12 of 12, finished" in said(training)
    assert [record["step"] for record in run.read(METRICS)] == list(range(1, 13))
