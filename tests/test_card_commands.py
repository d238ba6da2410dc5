"""Every command as it is typed, for every preset, on four cards that are not there (support/card.py).

Argument reading, cap, plan, loading, dry pass, steps, checkpoint, resume, running out of memory, and what comes after a
training. The models are small ones under the presets' names (support/small_hub.py), the plans those of the real ones.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import small_hub
from support.card import CARDS

from expo_lite.preset_files import presets
from expo_lite.run_dir import METRICS, RunDir

HERE = Path(__file__).parent
MODELS = {f"Qwen/Qwen2.5-{size}-Instruct": size != "7B" for size in ("1.5B", "3B", "7B")}  # name -> tied
SETS = {
    "EleutherAI/hendrycks_math": (
        ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra")
        + ("precalculus",),
        ("problem", "level", "type", "solution"),
    ),
    "openai/gsm8k": (("main",), ("question", "answer")),
}
FEW = "--data.test-problems 2 --data.validation-problems 2"
TINY = "--policy.device cuda --rollout.prompts-per-step 4"  # which is for the CPU

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
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
    }  # fmt: skip


def typed(hub: Path, card: str, folder: Path, *lines: str) -> dict[str, tuple[int, str]]:
    """Exit status and output of each line, run in `folder` by one process."""
    done = subprocess.run(
        [sys.executable, str(HERE / "support" / "typed.py"), *lines],
        cwd=folder, env=environment(hub, card), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    found = re.findall(r"^\$ (.*)\n((?:.*\n)*?)-> (\d+) after", done.stdout, re.M)
    assert [line for line, _, _ in found] == list(lines), done.stdout[-4000:]
    return {line: (int(status), said) for line, said, status in found}


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("preset", presets())
def test_from_the_plan_to_the_app(preset: str, card: str, hub: Path, tmp_path: Path) -> None:
    more = TINY if preset == "tiny" else ""
    train = f"expo_lite.train --preset {preset} --run run {FEW} {more}"
    lines = [
        f"expo_lite.plan --preset {preset}",
        f"{train} --steps 2",
        "short of memory",
        f"{train} --steps 3 --resume",
        "expo_lite.evaluate run",
        "expo_lite.properties run --problems 2",
        "expo_lite.doctor run",
        "expo_lite.export run --to merged --merged",
        "app --run run",
    ]
    results = typed(hub, card, tmp_path, *lines)
    for line, (status, said) in results.items():
        assert status == 0, f"{line}\n{said[-3000:]}"
        assert "Traceback" not in said and "Warning" not in said, f"{line}\n{said[-3000:]}"
    run = RunDir(tmp_path / "run")
    steps = run.read(METRICS)
    assert [record["step"] for record in steps] == [1, 2, 3]
    assert [bool(record["out_of_memory_halvings"]) for record in steps] == [False, False, True], "it went on in halves"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["gpu"] == small_name(card)
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def small_name(card: str) -> str:
    """What torch calls the card."""
    return CARDS[card].name
