"""Many kinds of damage to a finished run's folder: every command says a sentence or heals it, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file, save_file
from support.whole_runs import start, write_settings

from expo_lite.app.run_list import list_runs
from expo_lite.commands import doctor, evaluate, export, train
from expo_lite.runs import files

pytestmark = pytest.mark.usefixtures("few_tiny_problems")
LAST, BEFORE = "checkpoints/step_000004", "checkpoints/step_000002"
WEIGHTS = "adapter/adapter_model.safetensors"
HEALED, REFUSED = 0, 2


def gone(name: str) -> Callable[[Path], None]:
    return lambda run: files.remove(run / name)


def empty(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(b"") and None


def half(name: str) -> Callable[[Path], None]:
    return lambda run: os.truncate(run / name, (run / name).stat().st_size // 2)


def flipped(name: str) -> Callable[[Path], None]:
    def flip(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[len(content) * 3 // 4] ^= 1
        (run / name).write_bytes(content)

    return flip


def holding(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text) and None


def swapped(name: str) -> Callable[[Path], None]:
    """A file where a folder should be, or a folder where a file should be."""

    def swap(run: Path) -> None:
        was_file = (run / name).is_file()
        files.remove(run / name)
        (run / name).mkdir() if was_file else (run / name).touch()

    return swap


def line(name: str, number: int, text: str) -> Callable[[Path], None]:
    """Another line in place of one, from 1."""

    def replace(run: Path) -> None:
        lines = (run / name).read_text().splitlines()
        lines[number - 1] = text
        (run / name).write_text("\n".join(lines) + "\n")

    return replace


def torn(name: str) -> Callable[[Path], None]:
    return lambda run: os.truncate(run / name, (run / name).stat().st_size - 25)


def not_finite(name: str) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        save_file({key: tensor * float("nan") for key, tensor in load_file(run / name).items()}, run / name)

    return spoil


def both(*damages: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda run: [damage(run) for damage in damages] and None


class Case(NamedTuple):
    """What is done to the folder, how a resumption ends, and words of what it says."""

    damage: Callable[[Path], None]
    status: int
    words: str = ""


CASES = {
    "a bit of the training state": Case(flipped(f"{LAST}/training.pt"), HEALED, "steps 3 to 4 are trained again"),
    "a bit of the checkpoint's adapter": Case(flipped(f"{LAST}/{WEIGHTS}"), HEALED, "set aside"),
    "a bit of the adapter's settings": Case(flipped(f"{LAST}/adapter/adapter_config.json"), HEALED, "set aside"),
    "a bit of the progress": Case(flipped(f"{LAST}/progress.json"), HEALED, "set aside"),
    "a bit of the manifest": Case(flipped(f"{LAST}/manifest.json"), HEALED, "set aside"),
    "the training state is gone": Case(gone(f"{LAST}/training.pt"), HEALED, "training.pt is missing"),
    "the training state is half": Case(half(f"{LAST}/training.pt"), HEALED, "set aside"),
    "the training state is empty": Case(empty(f"{LAST}/training.pt"), HEALED, "set aside"),
    "the progress is gone": Case(gone(f"{LAST}/progress.json"), HEALED, "progress.json is missing"),
    "the progress is another's": Case(holding(f"{LAST}/progress.json", "[3]"), HEALED, "set aside"),
    "the manifest is half": Case(half(f"{LAST}/manifest.json"), HEALED, "manifest.json cannot be read"),
    "the manifest is a list": Case(holding(f"{LAST}/manifest.json", "[]"), HEALED, "manifest.json cannot be read"),
    "the manifest is gone": Case(gone(f"{LAST}/manifest.json"), HEALED),
    "no manifest, half a state": Case(
        both(gone(f"{LAST}/manifest.json"), half(f"{LAST}/training.pt")), HEALED, "it cannot be read"
    ),
    "no manifest, not finite": Case(
        both(gone(f"{LAST}/manifest.json"), not_finite(f"{LAST}/{WEIGHTS}")), HEALED, "not finite"
    ),
    "the checkpoint is empty": Case(both(gone(LAST), lambda run: (run / LAST).mkdir()), HEALED, "set aside"),
    "the checkpoint is a file": Case(swapped(LAST), HEALED, "set aside"),
    "the checkpoint's adapter is gone": Case(gone(f"{LAST}/adapter"), HEALED, "is missing"),
    "the older checkpoint": Case(flipped(f"{BEFORE}/training.pt"), HEALED),
    "both checkpoints": Case(
        both(flipped(f"{LAST}/training.pt"), half(f"{BEFORE}/training.pt")), REFUSED, "none of its checkpoints is sound"
    ),
    "no checkpoint": Case(gone("checkpoints"), REFUSED, "no checkpoint to go on from"),
    "the checkpoints are a file": Case(swapped("checkpoints"), REFUSED, "checkpoints is a file"),
    "the adapter is gone": Case(gone("adapter"), HEALED),
    "the adapter is a file": Case(swapped("adapter"), REFUSED, "adapter is a file"),
    "the adapter's matrices are gone": Case(gone(WEIGHTS), HEALED),
    "the adapter's matrices are half": Case(half(WEIGHTS), HEALED),
    "a bit of the adapter's matrices": Case(flipped(WEIGHTS), HEALED),
    "the adapter is not finite": Case(not_finite(WEIGHTS), HEALED),
    "the adapter's settings are gone": Case(gone("adapter/adapter_config.json"), HEALED),
    "the adapter's settings are no JSON": Case(holding("adapter/adapter_config.json", "{"), HEALED),
    "metrics are torn": Case(torn("metrics.jsonl"), HEALED, "has no record of step 4 any more"),
    "samples are torn": Case(torn("samples.jsonl"), HEALED, "samples.jsonl lacks "),
    "scores are torn": Case(torn("eval.jsonl"), HEALED),
    "a line of metrics": Case(line("metrics.jsonl", 2, "{"), REFUSED, "metrics.jsonl:2: is no JSON record"),
    "a step that is text": Case(line("metrics.jsonl", 2, '{"step": "2"}'), REFUSED, "metrics.jsonl:2: step is"),
    "a number that is text": Case(
        line("metrics.jsonl", 3, '{"step": 3, "failed_groups": "x"}'), REFUSED, "metrics.jsonl:3: failed_groups is no"
    ),
    "scores without fields": Case(
        line("eval.jsonl", 1, '{"step": 0, "name": "base_validation"}'), REFUSED, "eval.jsonl:1: levels is missing"
    ),
    "scores of a level without fields": Case(
        line("eval.jsonl", 3, '{"step": 3, "name": "validation", "levels": [{"level": 1}]}'),
        REFUSED, "eval.jsonl:3: levels: k is missing",
    ),
    "a line of samples": Case(line("samples.jsonl", 5, "\x00\x00"), REFUSED, "samples.jsonl:5: is no JSON record"),
    "metrics are a folder": Case(swapped("metrics.jsonl"), REFUSED, "metrics.jsonl cannot be read"),
    "metrics are gone": Case(gone("metrics.jsonl"), HEALED, "has no record of steps 1 to 4 any more"),
    "the status is no JSON": Case(holding("status.json", "{"), HEALED),
    "the status is a list": Case(holding("status.json", "[1]"), HEALED),
    "the configuration is torn": Case(holding("config.yaml", "steps: [\n"), REFUSED, "config.yaml:"),
    "the configuration is gone": Case(gone("config.yaml"), REFUSED, "holds no run to resume"),
    "the settings of the start are half": Case(holding("started.yaml", "steps: [\n"), REFUSED, "started.yaml"),
    "the environment is no JSON": Case(holding("environment.json", "{"), HEALED),
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = write_settings(tmp_path_factory.mktemp("damage"), checkpoint={"every": 2, "keep": 9})
    assert start(settings, settings.parent / "run")[0] == 0
    return settings.parent / "run"


@pytest.fixture
def damaged(undisturbed: Path, tmp_path: Path, case: Case) -> Path:
    run = Path(shutil.copytree(undisturbed, tmp_path / "runs" / "mine"))
    case.damage(run)
    return run


def contents(run: Path) -> dict[str, bytes]:
    """All files but the lock, and what every resumption writes anew."""
    anew = (".lock", "config.yaml", "status.json", "environment.json")
    paths = (path for path in run.rglob("*") if path.is_file() and path.name not in anew)
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_resumed_or_refused(
    case: Case, damaged: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(damaged)
    status = train.main(["--resume", "--run", str(damaged)])
    said = capsys.readouterr()
    assert status == case.status and case.words in " ".join((said.out + said.err).split())
    if status == REFUSED:
        assert len(said.err.splitlines()) == 1 or "when" in case.words
        assert contents(damaged) == before
        return
    now, whole = contents(damaged), contents(undisturbed)
    same = ["adapter/adapter_config.json", WEIGHTS, f"{LAST}/{WEIGHTS}"]
    if not any(words in case.words for words in ("any more", "lacks")):
        same += ["samples.jsonl", "eval.jsonl"]
    assert {name: now[name] for name in same} == {name: whole[name] for name in same}
    in_checkpoints = [content for name, content in before.items() if name.startswith("checkpoints")]
    assert all(content in now.values() for content in in_checkpoints)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_looked_at(case: Case, damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the doctor, the app's list and the export, which load no model."""
    to = damaged.parent.parent / "exported"
    for command in (lambda: doctor.main([str(damaged)]), lambda: export.main([str(damaged), "--to", str(to)])):
        status = command()
        said = capsys.readouterr()
        assert status in (0, 2) and (status == 0 or len(said.err.splitlines()) == 1 or "yaml" in said.err), said.err
        assert "Traceback" not in said.err
    assert {run.name for run in list_runs(damaged.parent)} <= {"mine"}


EVALUATED = [name for name in CASES if "adapter" in name or "configuration" in name]


@pytest.mark.parametrize("case", [CASES[name] for name in EVALUATED], ids=EVALUATED)
def test_it_is_evaluated_or_refused(case: Case, damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = evaluate.main([str(damaged), "--problems", "1", "--samples", "1", "--k", "1"])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "") or (status == 2 and "Traceback" not in said.err)


def test_they_are_forty_or_more() -> None:
    assert len(CASES) >= 40
