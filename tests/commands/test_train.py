"""`python -m expo_lite.train` as it is typed: what is refused, in which words, and that nothing else is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.tiny_models import save_base

from expo_lite.commands.train import main
from expo_lite.config.read import dump_yaml, read_request
from expo_lite.runs.folder import RunDir

SMALL = [
    *("--steps", "1", "--policy.lora-rank", "4", "--rollout.prompts-per-step", "2", "--rollout.group-size", "2"),
    *("--rollout.max-new-tokens", "17", "--data.validation-problems", "1", "--data.test-problems", "1"),
    *("--evaluation.samples", "1", "--explanation.source", "expert", "--data.levels", "1=1"),
]
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def train(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`, on a machine without a GPU."""
    return subprocess.run(
        [sys.executable, "-m", "expo_lite.train", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **WITHOUT_GPU, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200"},
    )


@pytest.fixture
def refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Like `refused`, in this process: seconds are saved where torch would be loaded for each."""
    monkeypatch.chdir(tmp_path)

    def run(*flags: str) -> list[str]:
        before = sorted(tmp_path.rglob("*"))
        assert main(list(flags)) == 2
        assert sorted(tmp_path.rglob("*")) == before
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err.splitlines()

    return run


def refused(folder: Path, *flags: str) -> list[str]:
    """The lines of the message with which a command ends at once, leaving the folder as it was."""
    before = sorted(folder.rglob("*"))
    ended = train(folder, *flags)
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert sorted(folder.rglob("*")) == before
    return ended.stderr.splitlines()


def test_without_a_gpu_a_preset_for_one_ends_in_one_sentence(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, "--preset", "24gb")
    assert line == (
        "policy.device: this configuration needs an NVIDIA GPU, and torch sees none here; on a CPU use --preset tiny."
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "tinny"], "preset: there is no preset 'tinny' (did you mean tiny?"),
        (["--rollout.group-siz", "8"], "rollout.group_siz: unknown setting (did you mean rollout.group_size?)"),
        (["--rollout.group-size", "eight"], "rollout.group_size: should be a whole number (got 'eight')"),
    ],
)
def test_one_mistake(tmp_path: Path, flags: list[str], message: str) -> None:
    (line,) = refused(tmp_path, *flags)
    assert line.startswith(message)


def test_all_mistakes_of_file_and_flags_are_shown_at_once(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("steps: many\nrolout: {group_size: 4}\n")
    lines = refused(tmp_path, "--config", "my.yaml", "--preset", "tiny", "--kl.coef", "-1", "--seeds", "3")
    assert sorted(line.split(": should")[0].split(": unknown")[0] for line in lines) == [
        "kl.coef", "my.yaml:1: steps", "my.yaml:2: rolout", "seeds",
    ]  # fmt: skip


def test_an_existing_run_folder(tmp_path: Path, refused_here: Callable[..., list[str]]) -> None:
    RunDir.create(tmp_path / "runs" / "tiny-expo-seed0", "steps: 1\n").close()
    (line,) = refused_here("--preset", "tiny")
    assert line.startswith("runs/tiny-expo-seed0 already exists and was started with policy.device auto (now cpu), ")
    assert line.endswith(" more settings; choose another --run, or continue that run by --resume --run "
                         "runs/tiny-expo-seed0 alone")  # fmt: skip


def test_an_existing_run_folder_with_these_settings(tmp_path: Path, refused_here: Callable[..., list[str]]) -> None:
    """What --resume may change is no difference."""
    config = dump_yaml(read_request(["--preset", "tiny", "--steps", "7"]).config)
    RunDir.create(tmp_path / "runs" / "tiny-expo-seed0", config).close()
    (line,) = refused_here("--preset", "tiny")
    assert line == "runs/tiny-expo-seed0 already exists; continue it with --resume, or choose another --run"
    (line,) = refused_here("--preset", "tiny", "--rollout.group-size", "4")
    assert "already exists and was started with rollout.group_size 8 (now 4); choose another" in line


def test_a_run_folder_in_use(tmp_path: Path, refused_here: Callable[..., list[str]]) -> None:
    with RunDir.create(tmp_path / "mine", "steps: 1\n"):  # test_run_dir does it from another process
        (line,) = refused_here("--resume", "--run", "mine")
    assert line.startswith(f"mine is in use by another process (pid {os.getpid()})")


def test_a_missing_model(refused_here: Callable[..., list[str]]) -> None:
    lines = refused_here("--preset", "tiny", "--policy.model", "./nowhere", "--run", "mine")
    assert lines[0].startswith("policy.model: cannot load './nowhere'")


@pytest.mark.slow
def test_a_run_prints_its_own_words_only(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    ended = train(tmp_path, "--preset", "tiny", "--policy.model", str(base), *SMALL)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Memory plan: ")
    assert "Held-out problems, " in ended.stdout
    assert (tmp_path / "runs" / "tiny-expert-seed0" / "adapter" / "adapter_model.safetensors").is_file()


def test_neither_preset_nor_file_nor_model(refused_here: Callable[..., list[str]]) -> None:
    """The defaults alone would train a tiny model with the settings of a large one."""
    (line,) = refused_here("--steps", "2")
    assert line == "preset: name one; `--preset tiny` runs on a CPU, `expo-lite presets` lists all"


@pytest.mark.parametrize(
    ("flags", "start"),
    [
        (["tiny"], "# memory plan: it fits; "),
        (["24gb", "--memory.budget-gib", "6"], "# memory plan: it does not fit; "),
        (["24gb", "--policy.model", "some/model"], None),  # only the Hub knows its sizes
        (["24gb", "--memory.budget-gib", "null"], None),  # only the card knows its memory
    ],
)
def test_a_dry_run_ends_with_the_memory_plan(
    flags: list[str], start: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--preset", *flags, "--dry-run"]) == 0
    text = capsys.readouterr().out
    plans = [line for line in text.splitlines() if line.startswith("#")]
    assert [line.startswith(start or "-") for line in plans[:1]] == [True] * (start is not None)
    assert all(len(line) < 80 for line in plans)
    assert yaml.safe_load(text) == yaml.safe_load(dump_yaml(read_request(["--preset", *flags]).config))
