"""Whole runs on a small random base: what they leave behind, and that stopping and resuming changes nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.whole_runs import INTERRUPTED_RUN, results, resume, start, steps, undisturbed_run, write_settings

from expo_lite.commands.train import main
from expo_lite.config.read import read_config, read_request
from expo_lite.core.errors import CheckpointError, ConfigError, ExpoLiteError, MemoryBudgetError
from expo_lite.core.progress import OnProgress
from expo_lite.core.records import Problem
from expo_lite.grading.evaluator import Evaluation, Evaluator, LevelScore
from expo_lite.grading.intervals import Estimate
from expo_lite.model import row_batch
from expo_lite.model.sampler import Sampler
from expo_lite.problems import load_problems
from expo_lite.runs.folder import RunDir
from expo_lite.runs.loop import Loop
from expo_lite.runs.manifest import MANIFEST, write_manifest
from expo_lite.training.step import StepReport, Trainer
from expo_lite.training.updater import Updater

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

WRITTEN = ("metrics.jsonl", "samples.jsonl", "eval.jsonl", "status.json", "environment.json", "README.md")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of settings that name a saved random base."""
    return write_settings(tmp_path_factory.mktemp("loop"))


@pytest.fixture(scope="module")
def undisturbed(config: Path) -> Path:
    return undisturbed_run(config)


class TestFolder:
    def test_holds_what_it_should(self, undisturbed: Path) -> None:
        assert {path.name for path in undisturbed.iterdir()} - {".lock"} == {
            *WRITTEN, "config.yaml", "started.yaml", "learning_curves.png", "adapter", "checkpoints",
        }  # fmt: skip
        assert (undisturbed / "learning_curves.png").read_bytes().startswith(b"\x89PNG")

    def test_the_configuration_reads_back(self, config: Path, undisturbed: Path) -> None:
        argv = ["--preset", "tiny", "--config", str(config), "--run", str(undisturbed)]
        assert read_config(undisturbed / "config.yaml") == read_request(argv).config

    def test_records(self, undisturbed: Path) -> None:
        run = RunDir(undisturbed)
        assert steps(undisturbed) == [1, 2, 3, 4]
        assert all(record["updates"] == 1 and record["gradient_norm"] > 0 for record in run.read("metrics.jsonl"))
        assert [(r["name"], r["step"]) for r in run.read("eval.jsonl")] == [
            ("base_validation", 0), ("base_test", 0), ("validation", 3), ("validation", 4), ("test", 4),
        ]  # fmt: skip
        kinds = [record["kind"] for record in run.read("samples.jsonl")]
        assert kinds.count("rollout") == 4 * 3
        assert kinds.count("explanation") == 4 * 3
        assert run.read_status()["state"] == "finished"
        assert json.loads((undisturbed / "environment.json").read_text())["threads"] == 1

    def test_only_the_newest_checkpoints_are_kept(self, undisturbed: Path) -> None:
        assert [step for step, _ in RunDir(undisturbed).checkpoints()] == [4]  # keep: 1

    def test_the_adapter_has_learned(self, undisturbed: Path) -> None:
        adapter = load_file(undisturbed / "adapter" / "adapter_model.safetensors")
        assert all(tensor.abs().max() > 0 for name, tensor in adapter.items() if "lora_B" in name)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
class TestResumedRunsEqualUndisturbedOnes:
    def interrupted(self, number: signal.Signals, step: int, config: Path, folder: Path) -> subprocess.CompletedProcess:
        script = folder.with_suffix(".py")
        script.write_text(INTERRUPTED_RUN)
        argv = ["--preset", "tiny", "--config", str(config), "--run", str(folder)]
        return subprocess.run(
            [sys.executable, str(script), str(int(number)), str(step), *argv],
            capture_output=True, text=True, start_new_session=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip

    @pytest.mark.slow
    def test_ctrl_c(self, config: Path, undisturbed: Path, tmp_path: Path) -> None:
        ended = self.interrupted(signal.SIGINT, 1, config, tmp_path / "run")
        assert ended.returncode == 130, ended.stderr
        assert "Traceback" not in ended.stderr
        assert "Stopping after this step" in ended.stdout
        assert "Stopped after step 1" in ended.stdout
        assert steps(tmp_path / "run") == [1]
        assert RunDir(tmp_path / "run").read_status()["state"] == "stopped"

        assert resume(tmp_path / "run")[0] == 0
        assert results(tmp_path / "run") == results(undisturbed)

    @pytest.mark.slow
    def test_killed_between_checkpoints(self, config: Path, undisturbed: Path, tmp_path: Path) -> None:
        ended = self.interrupted(signal.SIGKILL, 3, config, tmp_path / "run")
        assert ended.returncode == -signal.SIGKILL
        assert steps(tmp_path / "run") == [1, 2, 3]
        assert [step for step, _ in RunDir(tmp_path / "run").checkpoints()] == [2]

        status, shown = resume(tmp_path / "run")
        assert status == 0
        assert "after step 2" in shown
        assert results(tmp_path / "run") == results(undisturbed)

    @pytest.mark.slow
    def test_stopped_twice(
        self, config: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = Loop.record

        def record_and_stop(self: Loop, report: StepReport) -> None:
            record(self, report)
            self.stop.asked = True

        with monkeypatch.context() as patch:
            patch.setattr(Loop, "record", record_and_stop)
            assert start(config, tmp_path / "run")[0] == 130
            assert resume(tmp_path / "run")[0] == 130
        assert steps(tmp_path / "run") == [1, 2]
        assert resume(tmp_path / "run")[0] == 0
        assert results(tmp_path / "run") == results(undisturbed)


class TestResuming:
    @pytest.fixture
    def copy(self, undisturbed: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(undisturbed, tmp_path / "copy"))

    def test_a_finished_run_trains_no_more(self, copy: Path) -> None:
        before = results(copy)
        status, shown = resume(copy)
        assert status == 0
        assert "Held-out problems, " in shown
        assert results(copy) == before

    def test_more_steps_may_be_asked_for(self, undisturbed: Path, copy: Path) -> None:
        assert resume(copy, "--steps", "5")[0] == 0
        assert steps(copy) == [1, 2, 3, 4, 5]
        assert (copy / "samples.jsonl").read_bytes().startswith((undisturbed / "samples.jsonl").read_bytes())
        assert [(r["name"], r["step"]) for r in RunDir(copy).read("eval.jsonl")][-2:] == [
            ("validation", 5),
            ("test", 5),
        ]
        assert read_config(copy / "config.yaml").steps == 5

    @pytest.mark.parametrize("pairs", ["online", "offline"])
    @pytest.mark.slow
    def test_dpo_goes_on_to_the_bit(self, pairs: str, config: Path, tmp_path: Path) -> None:
        flags = ["--objective.name", "dpo", "--dpo.pairs", pairs, "--kl.coef", "0", "--optimizer.schedule", "constant"]
        assert start(config, tmp_path / "whole", *flags)[0] == 0
        assert start(config, tmp_path / "halves", *flags, "--steps", "2")[0] == 0
        assert resume(tmp_path / "halves", "--steps", "4")[0] == 0
        whole, halves = results(tmp_path / "whole"), results(tmp_path / "halves")
        assert [step["pairs"] for step in whole["metrics"]] == [3, 3, 3, 3]
        for same in ("metrics", "samples", "last"):
            assert whole[same] == halves[same]

    def test_other_settings_are_refused_all_at_once(self, copy: Path) -> None:
        before = (copy / "config.yaml").read_bytes()
        flags = ["--rollout.temperature", "1", "--explanation.source", "self", "--data.levels", "1=2,6=1"]
        with pytest.raises(ConfigError) as caught:
            resume(copy, *flags)
        names = [line.split(": ")[0] for line in str(caught.value).splitlines()[:-1]]
        assert sorted(names) == ["data.levels.1", "data.levels.6", "explanation.source", "rollout.temperature"]
        assert "explanation.source: was expert" in str(caught.value)
        assert (copy / "config.yaml").read_bytes() == before
        RunDir.open(copy).close()  # and it is not left locked

    def test_a_damaged_checkpoint_says_what_to_do(self, copy: Path) -> None:
        (copy / "checkpoints" / "step_000004" / "training.pt").write_bytes(b"")
        with pytest.raises(CheckpointError, match=r"none of its checkpoints is sound .*training.pt is not"):
            resume(copy)

    def test_other_problems_are_refused(self, copy: Path) -> None:
        """As where the data file was edited between start and resumption."""
        progress = copy / "checkpoints" / "step_000004" / "progress.json"
        values = json.loads(progress.read_text())
        progress.write_text(json.dumps(values | {"data": "another"}))
        (progress.parent / MANIFEST).unlink()
        with pytest.raises(CheckpointError, match=r"the problems are not those .* put data\.source back"):
            resume(copy)

    def test_a_folder_in_use(self, copy: Path) -> None:
        with RunDir.open(copy), pytest.raises(CheckpointError, match="is in use"):
            resume(copy)

    def test_relative_folders(self, undisturbed: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(copy.parent)
        assert resume(Path("copy"))[0] == 0
        assert results(copy) == results(undisturbed)


@dataclass
class Device:
    """Knows what a run is doing, and runs out of memory for good at one place: (step, purpose, number of the piece)."""

    fails_at: tuple[int, str, int]
    step: int = 0
    pieces: int = 0

    def enter(self, purpose: str) -> None:
        """A piece of work begins; a second attempt at it is the same piece."""
        step, fails_for, number = self.fails_at
        if (self.step, purpose) == (step, fails_for):
            self.pieces += 1
            if self.pieces >= number:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8.00 GiB.")


@pytest.fixture
def full_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes the device run out of memory within its block."""

    @contextmanager
    def full(step: int, purpose: str, number: int = 1) -> Iterator[None]:
        device = Device((step, purpose, number))
        step_of, sample, accumulate = Trainer.step, Sampler.sample, Updater.accumulate_gradients
        choose_token, optimizer_step = row_batch.choose, torch.optim.AdamW.step
        sampled_for = ""

        def noted_step(self: Trainer, number: int, *args: Any) -> StepReport:
            device.step = number
            return step_of(self, number, *args)

        def noted_sample(self: Sampler, requests: Any, *args: Any, **options: Any) -> Any:
            nonlocal sampled_for
            sampled_for = str(requests[0].stream[1])
            return sample(self, requests, *args, **options)

        def choose(*args: Any) -> Any:
            device.enter(sampled_for)
            return choose_token(*args)

        def noted_accumulate(self: Updater, batch: Any) -> Any:
            device.enter("training")
            return accumulate(self, batch)

        def noted_optimizer_step(self: Any, *args: Any) -> Any:
            result = optimizer_step(self, *args)
            device.enter("optimizer")
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "step", noted_step)
            patch.setattr(Sampler, "sample", noted_sample)
            patch.setattr(row_batch, "choose", choose)
            patch.setattr(Updater, "accumulate_gradients", noted_accumulate)
            patch.setattr(torch.optim.AdamW, "step", noted_optimizer_step)
            yield

    yield full


class TestOutOfMemoryForGood:
    @pytest.mark.parametrize(
        ("step", "purpose", "saved_after"),
        [
            pytest.param(0, "evaluation", 0, id="scoring the base", marks=pytest.mark.slow),
            pytest.param(1, "training", 0, id="training in the first step", marks=pytest.mark.slow),
            pytest.param(2, "training", 1, id="training between checkpoints"),
            pytest.param(4, "rollout", 3, id="sampling between checkpoints", marks=pytest.mark.slow),
            pytest.param(3, "evaluation", 3, id="validation"),
            pytest.param(3, "rollout", 2, id="just after a checkpoint", marks=pytest.mark.slow),
            pytest.param(4, "evaluation", 4, id="validation after the last step", marks=pytest.mark.slow),
        ],
    )
    def test_the_complete_steps_are_saved(
        self, step: int, purpose: str, saved_after: int, full_device: Any, config: Path, undisturbed: Path,
        tmp_path: Path, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        folder = tmp_path / "run"
        with full_device(step, purpose):
            status = main(["--preset", "tiny", "--config", str(config), "--run", str(folder)])
        (message,) = capsys.readouterr().err.splitlines()
        assert status == 2
        kind = "micro_batch_tokens" if purpose == "training" else "rollouts_alive"
        assert message.startswith(f"memory.{kind}: out of GPU memory with a single sequence (CUDA out of memory. ")
        assert f"saved after step {saved_after}: " in message and f"--resume --run {folder}," in message
        assert RunDir(folder).checkpoints()[-1][0] == saved_after
        assert RunDir(folder).read_status()["state"] == "failed"

        assert resume(folder, "--memory.logprob-chunk", "64")[0] == 0  # as the message proposes
        assert results(folder) == results(undisturbed)

    def test_the_test_problems_at_the_end(self, full_device: Any, undisturbed: Path, tmp_path: Path) -> None:
        """By then the best adapter is loaded, which must not be saved as the state after the last step."""
        folder = Path(shutil.copytree(undisturbed, tmp_path / "run"))
        records = (folder / "eval.jsonl").read_text().splitlines(keepends=True)
        (folder / "eval.jsonl").write_text("".join(records[:-1]))
        checkpoint = folder / "checkpoints" / "step_000004"
        best = Path(shutil.copytree(checkpoint / "adapter", checkpoint / "best")) / "adapter_model.safetensors"
        save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(best).items()}, best)
        write_manifest(checkpoint, {})
        with full_device(0, "evaluation"), pytest.raises(MemoryBudgetError, match="saved after step 4"):
            resume(folder)
        assert results(folder)["last"] == results(undisturbed)["last"]

    @pytest.mark.parametrize("purpose", [pytest.param("training", marks=pytest.mark.slow), "optimizer"])
    def test_half_a_step_is_not_saved(self, purpose: str, full_device: Any, config: Path, tmp_path: Path) -> None:
        """In the second update of step 4, the first is in the adapter already: step 2 is the last that can be had."""
        flags = ["--objective.updates-per-batch", "2", "--memory.micro-batch-tokens", "9999"]
        folder, whole = tmp_path / "run", tmp_path / "whole"
        assert start(config, whole, *flags)[0] == 0
        with full_device(4, purpose, 2), pytest.raises(MemoryBudgetError, match=r"saved after step 2: .*--resume"):
            start(config, folder, *flags)
        assert [step for step, _ in RunDir(folder).checkpoints()] == [2]
        assert resume(folder)[0] == 0
        assert results(folder) == results(whole)

    def test_half_of_the_first_step(self, full_device: Any, config: Path, tmp_path: Path) -> None:
        """Nothing can be saved, but the run can be resumed from its start, with the base's scores."""
        with full_device(1, "optimizer"), pytest.raises(MemoryBudgetError, match="saved after step 0: "):
            start(config, tmp_path / "run")
        assert RunDir(tmp_path / "run").checkpoints() == []
        status, shown = resume(tmp_path / "run", "--steps", "1")
        assert status == 0 and "Scoring the base" not in shown

    def test_loading_the_model(self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(*_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8.00 GiB.")

        monkeypatch.setattr("expo_lite.runs.session.assemble", load)
        with pytest.raises(MemoryBudgetError, match=r"^memory\.budget_gib: .* before training began .*smaller policy"):
            start(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()


class TestReading:
    def test_resume_and_run_alone_start_from_the_runs_own_settings(self, undisturbed: Path) -> None:
        request = read_request(["--resume", "--run", str(undisturbed), "--steps", "9"])
        assert (request.config.steps, request.config.seed) == (9, 3)
        assert request.config.rollout == read_config(undisturbed / "config.yaml").rollout

    @pytest.mark.parametrize("flags", [["--preset", "tiny"], ["--config", "empty.yaml"]])
    def test_a_preset_or_file_stands_for_itself(self, undisturbed: Path, flags: list[str], tmp_path: Path) -> None:
        (tmp_path / "empty.yaml").write_text("")
        flags = [str(tmp_path / flag) if flag.endswith("yaml") else flag for flag in flags]
        assert read_request(["--resume", "--run", str(undisturbed), *flags]).config.seed == 0

    def test_without_resume_too(self, undisturbed: Path) -> None:
        assert read_request(["--run", str(undisturbed)]).config.seed == 0

    def test_no_run_there(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no run to resume"):
            resume(tmp_path / "nowhere")

    def test_its_mistakes_are_named_with_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("stepz: 3\n")
        with pytest.raises(ConfigError, match=r"config\.yaml:1: stepz: unknown setting"):
            read_request(["--resume", "--run", str(tmp_path)])


class TestStarting:
    def test_an_existing_folder_is_refused(self, config: Path, undisturbed: Path) -> None:
        with pytest.raises(CheckpointError, match="already exists; continue it with --resume"):
            start(config, undisturbed)

    def test_relative_folders(self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert start(config, Path("runs/mine"), "--steps", "1")[0] == 0
        assert [path.name for path in tmp_path.iterdir()] == ["runs"]
        assert (tmp_path / "runs" / "mine" / "config.yaml").is_file()
        assert steps(tmp_path / "runs" / "mine") == [1]

    def test_ctrl_c_while_loading_leaves_no_folder(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("expo_lite.runs.session.assemble", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start(config, tmp_path / "mine")
        assert not (tmp_path / "mine").exists()

    @pytest.mark.parametrize("flag", [["--policy.model", "./nowhere"], ["--data.source", "nowhere.jsonl"]])
    def test_what_cannot_start_leaves_no_folder(self, config: Path, tmp_path: Path, flag: list[str]) -> None:
        with pytest.raises(ExpoLiteError, match=flag[0].removeprefix("--")):
            start(config, tmp_path / "runs" / "mine", *flag)
        assert not (tmp_path / "runs" / "mine").exists()


def test_where_nothing_can_be_learned_it_says_why(config: Path, tmp_path: Path) -> None:
    status, shown = start(config, tmp_path / "run", "--explanation.source", "self", "--kl.coef", "0", "--steps", "2")
    assert status == 0
    assert [record["updates"] for record in RunDir(tmp_path / "run").read("metrics.jsonl")] == [0, 0]
    assert "No explanation of the failed groups was accepted" in shown
    assert "raise rollout.max_new_tokens" in shown
    assert "6 times all attempts at a problem failed; 0 times an explanation was learned from instead." in shown
    adapter = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert all(tensor.abs().max() == 0 for name, tensor in adapter.items() if "lora_B" in name)


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> Iterator[float]:
    """Let evaluations come to these scores, one after the other."""
    scores = iter(values)

    def evaluate(self: Evaluator, problems: Sequence[Problem], on_progress: OnProgress) -> Evaluation:
        estimate = Estimate(next(scores), 0.0, 1.0)
        return Evaluation([LevelScore(1, len(problems), 2, 2, estimate, estimate, 0.0)])

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    return scores


def test_the_best_adapter_is_the_one_kept(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = scripted(monkeypatch, [0.4, 0.3, 0.1, 0.5, 0.2, 0.45])  # base on both sets, steps 1 to 3, then the test
    flags = ["--steps", "3", "--evaluation.every", "1", "--checkpoint.every", "1", "--checkpoint.keep", "9"]
    status, shown = start(config, tmp_path / "run", *flags)
    assert (status, list(scores)) == (0, [])
    kept = (tmp_path / "run" / "adapter" / "adapter_model.safetensors").read_bytes()
    of_step = [
        (folder / "adapter" / "adapter_model.safetensors").read_bytes()
        for _, folder in RunDir(tmp_path / "run").checkpoints()
    ]
    assert [kept == weights for weights in of_step] == [False, True, False]
    assert "Adapter of step 2 (best on validation)" in shown
    assert "step 2 was best" in (tmp_path / "run" / "README.md").read_text()
    assert shown.count("Level 1 has fallen from ") == 1  # at step 1
    (end,) = (line for line in shown.splitlines() if "forgetting (2 times)" in line)  # at step 3
    assert end.startswith("As before: ") and end not in shown.partition("Held-out problems, ")[2]
    after = (f"python app.py --run {tmp_path / 'run'}\n", f"expo-lite doctor {tmp_path / 'run'}\n")
    assert all(command in shown for command in after)


def test_where_none_is_as_good_as_the_base_none_is_called_best(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.9, 0.8, 0.3, 0.45, 0.4])  # base on validation and test, steps 1 and 2, then the test
    status, shown = start(config, tmp_path / "run", "--steps", "2", "--evaluation.every", "1")
    assert status == 0
    assert "Adapter of step 2 (none was as good as the base on validation, 45 % against 90 %)" in shown
    assert "best on validation" not in shown + (tmp_path / "run" / "README.md").read_text()


def test_a_log_hears_of_every_phase_from_the_base_on(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expo_lite.runs.display.LOG_SECONDS", 0.0)
    status, shown = start(config, tmp_path / "run", "--steps", "1", "--explanation.source", "self")
    assert status == 0
    lines = [
        re.match(r"step (\d)/1  (\w+( \w+)?)  +(\d+)/(\d+) (completions|sequences)", x) for x in shown.splitlines()
    ]
    told = [(found[1], found[2], int(found[4]), int(found[5])) for found in lines if found]
    ends = [(step, phase, total) for step, phase, done, total in told if done == total]
    # 2 problems of 5 levels with 2 samples each; 3 prompts with 2 attempts and 4 explanations each
    expected = [
        ("0", "base validation", 20), ("0", "base test", 20), ("0", "rollouts", 6), ("0", "explanations", 12),
        ("0", "reference", 6), ("0", "training", 6), ("1", "validation", 20), ("1", "test", 20),
    ]  # fmt: skip
    assert [end for end in dict.fromkeys(ends) if end[1] != "verifying"] == expected
    assert {(step, phase) for step, phase, done, _ in told if done == 0} >= {end[:2] for end in expected}
    assert len([line for line in shown.splitlines() if line.startswith("step 1/1   0:00:00 left  reward  0.00")]) == 1


def test_each_step_takes_new_problems(undisturbed: Path) -> None:
    rollouts = [r["problem"] for r in RunDir(undisturbed).read("samples.jsonl") if r["kind"] == "rollout"]
    assert len(set(rollouts)) == len(rollouts)
    held_out = load_problems(read_config(undisturbed / "config.yaml").data)
    assert not {p.id for p in held_out.validation + held_out.test} & set(rollouts)
