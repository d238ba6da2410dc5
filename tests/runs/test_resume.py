"""What a run goes on from where its folder was damaged, and what is said of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.whole_runs import results, resume, start, steps, undisturbed_run, write_settings

from expo_lite.config.dotted import differing, replaced
from expo_lite.config.read import dump_yaml, read_config
from expo_lite.core.errors import CheckpointError, ConfigError, DivergedError
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.model.non_finite import diverged
from expo_lite.runs import files, trackers
from expo_lite.runs.folder import ADAPTER_DIGEST, EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.manifest import write_manifest
from expo_lite.runs.open import settings_of
from expo_lite.training.step import Trainer

pytestmark = pytest.mark.usefixtures("few_tiny_problems")
KEEP = {"checkpoint": {"every": 2, "keep": 9}}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_settings(tmp_path_factory.mktemp("resume"), **KEEP)


@pytest.fixture(scope="module")
def undisturbed(config: Path) -> Path:
    return undisturbed_run(config)


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "copy"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def last_of(run: Path) -> Path:
    return RunDir(run).checkpoints()[-1][1]


class TestDamagedCheckpoints:
    @pytest.mark.parametrize("name", ["training.pt", "adapter/adapter_model.safetensors"])
    def test_the_one_before_is_used_and_what_is_lost_is_said(self, name: str, copy: Path, undisturbed: Path) -> None:
        damaged = last_of(copy)
        flip(damaged / name)
        status, shown = resume(copy)
        assert status == 0
        (line,) = [line for line in shown.splitlines() if "damaged" in line]
        assert line.startswith(f"{damaged} is damaged ({name} is not as it was saved); it is set aside as damaged-step")
        assert line.endswith("The checkpoint of step 2 is used instead: steps 3 to 4 are trained again.")
        assert (damaged.with_name("damaged-step_000004") / name).is_file()
        shutil.rmtree(damaged.with_name("damaged-step_000004"))
        assert results(copy) == results(undisturbed)

    def test_it_is_no_checkpoint_any_more(self, copy: Path) -> None:
        run = RunDir(copy)
        for number in ("", "-2"):
            place = run.set_aside(run.checkpoint(4))
            assert place.name == f"damaged-step_000004{number}" and [step for step, _ in run.checkpoints()] == [2]
            shutil.copytree(place, run.checkpoint(4))

    def test_where_none_is_sound_nothing_is_touched(self, copy: Path) -> None:
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        for _, folder in RunDir(copy).checkpoints():
            flip(folder / "training.pt")
            before[folder / "training.pt"] = (folder / "training.pt").read_bytes()
        with pytest.raises(CheckpointError, match=r"^[^\n]*none of its checkpoints is sound \(step_000004: [^\n]*$"):
            resume(copy)
        now = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        assert {path: now[path] for path in before if path.name != ".lock"} == {
            path: content for path, content in before.items() if path.name not in (".lock", "config.yaml")
        } | {copy / "config.yaml": now[copy / "config.yaml"]}

    def test_where_all_are_gone_the_records_stay(self, copy: Path) -> None:
        shutil.rmtree(copy / "checkpoints")
        with pytest.raises(CheckpointError, match="has 4 steps, but there is no checkpoint"):
            resume(copy)
        assert steps(copy) == [1, 2, 3, 4]

    def test_numbers_that_are_not_finite(self, copy: Path) -> None:
        folder = last_of(copy)
        weights = folder / "adapter" / "adapter_model.safetensors"
        save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(weights).items()}, weights)
        write_manifest(folder, {})
        status, shown = resume(copy)
        assert status == 0 and "(its adapter holds numbers that are not finite)" in shown
        assert "The checkpoint of step 2 is used instead" in shown

    def test_before_the_first_one(self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("expo_lite.runs.loop.Loop.save", lambda loop: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            start(config, tmp_path / "run")
        monkeypatch.undo()
        status, shown = resume(tmp_path / "run")
        assert status == 0 and "No checkpoint was saved yet: steps 1 to 2 are trained again." in shown


class TestRecords:
    """Torn by a power cut, while the checkpoint after them was already on the disk."""

    def tear(self, copy: Path, name: str, step: int) -> None:
        """Cut the file within its last record of that step."""
        lines = (copy / name).read_bytes().splitlines(keepends=True)
        records = RunDir(copy).read(name)
        last = max(number for number, record in enumerate(records) if record["step"] <= step)
        (copy / name).write_bytes(b"".join(lines[:last]) + lines[last][:-20])

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (METRICS, "has no record of step 4 any more"),
            (SAMPLES, r"lacks \d+ bytes of step 4"),
            (EVAL, r"lacks \d+ bytes of steps 3 to 4"),
        ],
    )
    def test_a_gap_is_said(self, name: str, said: str, copy: Path) -> None:
        if name == EVAL:  # without the test's scores, which came after the checkpoint
            self.tear(copy, EVAL, 4)
            (copy / EVAL).write_bytes((copy / EVAL).read_bytes().rpartition(b"\n")[0] + b"\n")
        self.tear(copy, name, 4)
        status, shown = resume(copy)
        assert status == 0 and [line for line in shown.splitlines() if re.search(said, line)], shown
        names = [(record["name"], record["step"]) for record in RunDir(copy).read(EVAL)]
        assert names[-2:] == [("validation", 4), ("test", 4)]  # they are taken again

    def test_a_whole_run_says_nothing(self, copy: Path) -> None:
        assert not re.search("any more|lacks", resume(copy)[1])

    def test_they_are_on_the_disk_before_the_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[str] = []
        monkeypatch.setattr(files, "sync", lambda path: synced.append(path.name))
        with RunDir.create(tmp_path / "run", "") as run:
            run.append(METRICS, {"step": 1})
            assert run.settle_records() == {METRICS: len('{"step": 1}\n')}
        assert synced == [METRICS]


class TestBestAdapter:
    """adapter/ belongs to the checkpoint that is gone on from."""

    def test_one_of_a_later_step_is_taken_back(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As after a kill: validated and saved after step 3, with the checkpoint of step 2 as the newest."""
        shutil.rmtree(last_of(copy))
        monkeypatch.setattr(Trainer, "step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume(copy)
        assert not (copy / "adapter").exists() and not any(ADAPTER_DIGEST in r for r in RunDir(copy).read(EVAL))

    @pytest.fixture
    def best_at_3(self, copy: Path) -> Path:
        """The run as if step 4 had been worse than step 3."""
        folder = last_of(copy)
        progress = json.loads((folder / "progress.json").read_text()) | {"best_step": 3}
        (folder / "progress.json").write_text(json.dumps(progress))
        other = {name: tensor + 1 for name, tensor in load_file(copy / "adapter" / WEIGHTS).items()}
        save_file(other, copy / "adapter" / WEIGHTS)
        shutil.copytree(copy / "adapter", folder / "best")
        write_manifest(folder, {})
        return copy

    @pytest.mark.parametrize("damage", ["missing", "damaged", "a later one"])
    def test_what_became_of_it_is_put_back(self, damage: str, best_at_3: Path) -> None:
        adapter, best = best_at_3 / "adapter", last_of(best_at_3) / "best" / WEIGHTS
        if damage == "missing":
            shutil.rmtree(adapter)
        elif damage == "damaged":
            flip(adapter / WEIGHTS)
        else:
            shutil.copyfile(last_of(best_at_3) / "adapter" / WEIGHTS, adapter / WEIGHTS)
        status, shown = resume(best_at_3)
        assert status == 0 and "Adapter of step 3 (best on validation)" in shown
        assert (adapter / WEIGHTS).read_bytes() == best.read_bytes()

    def test_it_is_kept_in_later_checkpoints(self, best_at_3: Path) -> None:
        progress = {"best_step": 3, "best_score": 2.0}
        folder = last_of(best_at_3)
        (folder / "progress.json").write_text(json.dumps(json.loads((folder / "progress.json").read_text()) | progress))
        write_manifest(folder, {})
        best = (folder / "best" / WEIGHTS).read_bytes()
        assert resume(best_at_3, "--steps", "6")[0] == 0
        assert (last_of(best_at_3) / "best" / WEIGHTS).read_bytes() == best

    @pytest.mark.parametrize("damage", ["missing", "damaged", "damaged, and nobody noted what it was"])
    def test_an_older_run_without_a_copy_chooses_anew(self, damage: str, best_at_3: Path) -> None:
        folder = last_of(best_at_3)
        shutil.rmtree(folder / "best")
        (folder / "manifest.json").unlink()
        if damage == "missing":
            shutil.rmtree(best_at_3 / "adapter")
        else:
            (best_at_3 / "adapter" / WEIGHTS).write_bytes(b"")
        if "nobody" in damage:
            evaluations = (best_at_3 / EVAL).read_text().replace(ADAPTER_DIGEST, "another")
            (best_at_3 / EVAL).write_text(evaluations)
        status, shown = resume(best_at_3)
        assert status == 0 and "is not the adapter of step 3 any more" in shown
        assert "Adapter of step 4 (best on validation)" in shown
        assert (best_at_3 / "adapter" / WEIGHTS).read_bytes() == (folder / "adapter" / WEIGHTS).read_bytes()


class TestSettings:
    """Edited in config.yaml, which `--resume --run` alone reads."""

    def edit(self, copy: Path, **changes: Any) -> None:
        file = copy / "config.yaml"
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        file.write_text(dump_yaml(replaced(read_config(file), dotted)))

    @pytest.mark.parametrize(
        ("name", "was", "now"), [("optimizer.learning_rate", 0.01, 0.02), ("policy.lora_rank", 4, 8), ("seed", 3, 4)]
    )
    def test_what_would_compute_something_else_is_refused_by_name(
        self, name: str, was: Any, now: Any, copy: Path
    ) -> None:
        self.edit(copy, **{name.replace(".", "__"): now})
        before = (copy / "config.yaml").read_bytes()
        with pytest.raises(
            ConfigError, match=rf"{name}: was {was} when .* was started \(got {now}\)\n.* may change\.$"
        ):
            resume(copy)
        assert (copy / "config.yaml").read_bytes() == before

    def test_an_edit_is_not_written_over_by_the_first_command(self, config: Path, copy: Path) -> None:
        """It names the settings that the run was started with, and would put the file back without a word."""
        self.edit(copy, optimizer__learning_rate=0.02)
        before = (copy / "config.yaml").read_bytes()
        with pytest.raises(
            ConfigError, match=r"optimizer.learning_rate: .*config\.yaml says 0\.02 \(got 0\.01\)\nIt was edited"
        ):
            start(config, copy, "--resume")
        assert (copy / "config.yaml").read_bytes() == before

    def test_what_may_change_is_used_and_said(self, copy: Path) -> None:
        changes = {"steps": 5, "evaluation__samples": 3, "evaluation__every": 5, "checkpoint__every": 1, "threads": 1}
        self.edit(copy, **changes)
        status, shown = resume(copy)
        assert status == 0 and "evaluation.samples 2 -> 3" in shown and "steps 4 -> 5" in shown
        tested = [(r["name"], r["levels"][0]["samples"]) for r in RunDir(copy).read(EVAL) if r["step"] in (0, 5)]
        assert tested[-4:] == [(name, 3) for name in ("base_validation", "base_test", "validation", "test")]
        assert "3 samples each" in (copy / "README.md").read_text()

    def test_trackers_may_change(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.edit(copy, trackers=["tensorboard"])
        monkeypatch.setattr(trackers, "version_of", str)  # installed, and if it is not, left out with a warning
        status, shown = resume(copy)
        assert status == 0 and "Changed since the start: trackers [] -> tensorboard." in shown

    def test_an_older_run_takes_its_configuration(self, copy: Path) -> None:
        (copy / "started.yaml").unlink()
        assert resume(copy)[0] == 0
        assert differing(settings_of(RunDir(copy)), read_config(copy / "config.yaml"), {"run"}) == []


@pytest.mark.parametrize(
    ("step", "said"), [(1, r"No sound checkpoint was saved before\.$"), (3, r"that of step 2: .*step_000002\.$")]
)
def test_a_training_that_diverges_names_what_is_sound(
    step: int, said: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: Callable = Trainer.step

    def diverging(self: Trainer, number: int, *rest: object) -> object:
        if number == step:
            raise diverged("The gradient is nan")
        return trained(self, number, *rest)

    monkeypatch.setattr(Trainer, "step", diverging)
    with pytest.raises(DivergedError, match=said):
        start(config, tmp_path / "run")
