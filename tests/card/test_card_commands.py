"""Every command as it is typed, for every preset, on two of four cards that are not there (support/card.py).

Argument reading, cap, plan, loading, dry pass, steps, checkpoint, resume, running out of memory, and what comes after a
training. The models are small ones under the presets' names (support/small_hub.py), the plans those of the real ones.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import small_hub
from support.card import CARDS
from support.preset_names import CARD_PRESETS

from expo_lite.problems.hub import KNOWN_SETS
from expo_lite.runs.folder import METRICS, RunDir

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

HERE = Path(__file__).parents[1]
MODELS = {f"Qwen/Qwen2.5-{size}-Instruct": size != "7B" for size in ("1.5B", "3B", "7B")}  # name -> tied
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "EleutherAI/hendrycks_math": (
        tuple(filter(None, KNOWN_SETS["EleutherAI/hendrycks_math"].subsets)),
        ("problem", "level", "type", "solution"),
    ),
}
PRESETS = ["tiny", *CARD_PRESETS]
FEW = "--data.test-problems 2 --data.validation-problems 2"
TINY = "--policy.device cuda --rollout.prompts-per-step 2 --rollout.max-new-tokens 24 --memory.rollouts-alive 8"

Results = dict[str, tuple[int, str]]
"""Line -> exit status, output."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with everything that the presets download."""
    home = tmp_path_factory.mktemp("hub")
    small_hub.fill(home, MODELS, SETS)
    return home


def environment(hub: Path, card: str) -> dict[str, str]:
    """Of a process that has this card, and a cache instead of the network."""
    path = os.pathsep.join([str(HERE / "support" / "site"), str(HERE.parent)])
    return os.environ | {
        "STAND_IN_CARD": card, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path, "COLUMNS": "120",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def typed(hub: Path, card: str, folder: Path, *lines: str) -> Results:
    """Exit status and output of each line, run in `folder` by one process."""
    done = subprocess.run(
        [sys.executable, str(HERE / "support" / "typed.py"), *lines],
        cwd=folder, env=environment(hub, card), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    found = re.findall(r"^\$ (.*)\n((?:.*\n)*?)-> (\d+) after", done.stdout, re.M)
    assert [line for line, _, _ in found] == list(lines), done.stdout[-4000:]
    return {line: (int(status), said) for line, said, status in found}


def at_once(hub: Path, folder: Path, work: dict[str, tuple[str, list[str]]]) -> dict[str, tuple[Path, Results]]:
    """What came of each piece of work (name -> card, lines), in a folder of its own, two at a time."""
    folders = {name: folder / name for name in work}
    for each in folders.values():
        each.mkdir()
    with ThreadPoolExecutor(2) as pool:
        found = {name: pool.submit(typed, hub, card, folders[name], *lines) for name, (card, lines) in work.items()}
        return {name: (folders[name], future.result()) for name, future in found.items()}


@pytest.mark.parametrize("graphs", ["no", "yes"])
def test_what_the_project_exists_for(graphs: str, hub: Path, tmp_path: Path) -> None:
    """One line of the rest, among the fast tests."""
    ((status, said),) = typed(
        hub, "4090", tmp_path, f"expo_lite.train --preset 24gb --run run {FEW} --steps 1 --rollout.cuda-graphs {graphs}"
    ).values()
    assert (" graphs recorded" in said) == (graphs == "yes")
    assert "cuda_graphs" not in said, "neither ignored nor given up"
    assert status == 0 and "Traceback" not in said, said[-3000:]
    assert [record["step"] for record in RunDir(tmp_path / "run").read(METRICS)] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PRESETS)), ids=PRESETS)
def test_from_the_plan_to_the_app(number: int, hub: Path, tmp_path: Path) -> None:
    """Each preset on two cards, so that each card has three presets."""
    preset, cards = PRESETS[number], [list(CARDS)[(number + more) % len(CARDS)] for more in (0, 2)]
    train = f"expo_lite.train --preset {preset} --run run {FEW} {TINY if preset == 'tiny' else ''}"
    lines = [
        f"expo_lite plan --preset {preset}",
        *([] if preset == "tiny" else [f"expo_lite plan --preset {preset} --card H100"]),
        f"{train} --dry-run",
        f"{train} --steps 2",
        "short of memory",
        f"{train} --steps 3 --resume",
        "expo_lite evaluate run --problems 2",
        "expo_lite properties run --problems 2",
        "expo_lite doctor run",
        "expo_lite export run --to merged --merged",
        "app --run run",
    ]
    for card, (folder, results) in at_once(hub, tmp_path, {card: (card, lines) for card in cards}).items():
        for line, (status, said) in results.items():
            assert status == 0, f"{card}: {line}\n{said[-3000:]}"
            assert "Traceback" not in said and "Warning" not in said, f"{card}: {line}\n{said[-3000:]}"
        steps = RunDir(folder / "run").read(METRICS)
        assert [record["step"] for record in steps] == [1, 2, 3]
        halved = [bool(record["out_of_memory_halvings"]) for record in steps]
        assert halved == [False, False, True], f"{card}: it goes on in halves"
        assert json.loads((folder / "run" / "environment.json").read_text())["gpu"] == CARDS[card].name
        assert (folder / "merged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_trainings_in_processes_of_their_own(hub: Path, tmp_path: Path) -> None:
    """Every preset and every card, not each with each: a comparison is four processes."""
    small = f"--methods grpo expo --seeds 0 --steps 2 --problems 2 --samples 4 --learning-rates 1e-5 --to report {FEW}"
    work = {
        preset: (card, [f"expo_lite study --preset {preset} {small} {TINY if preset == 'tiny' else ''}"])
        for preset, card in zip(PRESETS, itertools.cycle(CARDS), strict=False)
    }
    for preset, (folder, results) in at_once(hub, tmp_path, work).items():
        ((status, said),) = results.values()
        assert status == 0 and "Traceback" not in said, f"{preset}\n{said[-3000:]}"
        trained = {path.parent.name.partition("-")[0] for path in (folder / "report").glob("*/metrics.jsonl")}
        assert trained == {"grpo", "expo"}


@pytest.mark.slow
def test_the_notebook_on_a_t4(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell but the one that serves, in a kernel and the processes that it starts."""
    for name, value in environment(hub, "t4").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(HERE.parent / "notebooks" / "expo_lite_colab.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "serves" not in cell.metadata.get("tags", [])]
    settings = next(cell for cell in notebook.cells if "\nSETTINGS = " in cell.source)
    settings.source += '\nSTEPS, SETTINGS = 3, {"data": {"test_problems": 2, "validation_problems": 2}}'
    client = nbclient.NotebookClient(
        notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    said = json.dumps([cell.get("outputs") for cell in notebook.cells])
    assert "step 3 of 3, finished" in said and "Tesla T4" in said and "Traceback" not in said
    assert (tmp_path / "runs" / "exported" / "adapter_model.safetensors").is_file()
