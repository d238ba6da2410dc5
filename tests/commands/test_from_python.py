"""The Python interface: the same as the command line, in scripts, threads and again after an interruption."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import expo_lite
from expo_lite import Config, ExpoLiteError, ExPOTrainer, load_config
from expo_lite.commands import train
from expo_lite.config.read import read_request
from expo_lite.core.errors import ConfigError
from expo_lite.problems.tiny_world import OUTSIDE
from expo_lite.runs import notebook
from expo_lite.runs.folder import METRICS, RunDir

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

SMALL: dict[str, Any] = {"steps": 2, "data": {"validation_problems": 2, "test_problems": 2}, "evaluation": {"every": 1}}


def nothing(completions: list[str], **columns: Any) -> list[float]:
    return [0.0 for _ in completions]


def untimed(run: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in record.items() if not k.endswith("seconds")} for record in RunDir(run).read(METRICS)]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> ExPOTrainer:
    """One that has trained."""
    made = ExPOTrainer(load_config("tiny", run=str(tmp_path_factory.mktemp("api") / "run"), **SMALL))
    assert made.train().finished
    return made


class TestImporting:
    def test_nothing_heavy(self) -> None:
        code = "import expo_lite, sys; dir(expo_lite); assert not {'torch', 'pydantic', 'rich'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_names(self) -> None:
        assert set(expo_lite.__all__) <= set(dir(expo_lite)) and expo_lite.Config is Config
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = expo_lite.nothing  # type: ignore[attr-defined]

    def test_no_name_is_a_modules(self) -> None:
        """Else `python -m expo_lite.train` would warn, and what is imported would depend on the order."""
        modules = {path.stem for path in Path(expo_lite.__file__).parent.iterdir()}
        assert not modules & set(expo_lite.__all__)


class TestLoadConfig:
    @pytest.mark.slow
    def test_is_the_command_lines(self) -> None:
        asked = read_request(["--preset", "8gb", "--steps", "7", "--rollout.group-size", "4"]).config
        made = load_config("8gb", steps=7, rollout={"group_size": 4})
        assert made.model_copy(update={"run": None}) == asked and made.run == "runs/8gb-expo-seed0"

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_text("steps: 3\nexplanation:\n  source: none\n")
        assert load_config(path, seed=2).run == "runs/run-grpo-seed2" and load_config(str(path)).steps == 3

    @pytest.mark.parametrize(
        ("source", "settings", "message"),
        [
            ("tinny", {}, "there is no preset 'tinny' .did you mean tiny"),
            ("gone.yaml", {}, "gone.yaml: there is no such file"),
            ("tiny", {"rollout": {"group_size": 1}}, "rollout.group_size: should be at least 2"),
            ("tiny", {"rolout": {}}, "rolout: .*did you mean"),
            ("tiny", {"steps": True}, "steps: should not be true or false"),
        ],
    )
    def test_mistakes(self, source: str, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            load_config(source, **settings)


class TestTraining:
    @pytest.mark.slow
    def test_is_the_command_lines(self, trainer: ExPOTrainer, tmp_path: Path) -> None:
        flags = ["--steps", "2", "--data.validation-problems", "2", "--data.test-problems", "2"]
        run = tmp_path / "run"
        assert train.main(["--preset", "tiny", *flags, "--evaluation.every", "1", "--run", str(run)]) == 0
        assert untimed(run) == untimed(trainer.run)
        assert {path.name for path in run.iterdir()} == {
            path.name for path in trainer.run.iterdir() if "evaluation" not in path.name
        }

    def test_again_costs_nothing(self, trainer: ExPOTrainer) -> None:
        before = (trainer.run / METRICS).stat().st_mtime_ns
        trained = ExPOTrainer(trainer.config).train()
        assert trained.finished and (trainer.run / METRICS).stat().st_mtime_ns == before
        assert str(trained) == f"step 2 of 2, finished: {trainer.run}" and trained.adapter.is_dir()

    def test_other_settings(self, trainer: ExPOTrainer) -> None:
        other = load_config("tiny", run=str(trainer.run), seed=1, **SMALL)
        with pytest.raises(ConfigError, match=r"seed: was 0 when .* was started \(got 1\)"):
            ExPOTrainer(other).train()

    @pytest.mark.slow
    def test_more_steps_go_on(self, tmp_path: Path) -> None:
        """And in a thread, where signals cannot be asked for."""
        done: list[Any] = []
        for steps in (1, 2):
            config = load_config("tiny", run=str(tmp_path / "run"), **{**SMALL, "steps": steps})
            thread = threading.Thread(target=lambda config=config: done.append(ExPOTrainer(config).train()))
            thread.start()
            thread.join()
        assert [(trained.step, trained.finished) for trained in done] == [(1, True), (2, True)]
        assert [record["step"] for record in RunDir(tmp_path / "run").read(METRICS)] == [1, 2]

    @pytest.mark.slow
    def test_a_script_that_was_interrupted_goes_on(self, trainer: ExPOTrainer, tmp_path: Path) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            textwrap.dedent(f"""
            import os, signal, sys
            from expo_lite import ExPOTrainer, load_config
            from expo_lite.problems import load
            from expo_lite.runs import loop

            load.TRAIN_PROBLEMS = 40  # as the tests around it
            if __name__ == "__main__":
                record = loop.Loop.record
                def record_and_signal(self, report):
                    record(self, report)
                    if report.step == 1 and len(sys.argv) > 1:
                        os.kill(os.getpid(), signal.SIGINT)
                loop.Loop.record = record_and_signal
                print(ExPOTrainer(load_config("tiny", run="run", **{SMALL!r})).train())
            """)
        )
        for arguments, said in ((["stop"], "step 1 of 2, stopped"), ([], "step 2 of 2, finished")):
            command = [sys.executable, str(script), *arguments]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0 and said in done.stdout, done.stderr
        assert untimed(tmp_path / "run") == untimed(trainer.run)


class TestSeeing:
    def test_scores(self, trainer: ExPOTrainer) -> None:
        scores = trainer.evaluate(k=(1, 2), problems=2)
        assert [level.level for level in scores.levels] == [1, 2, 3, 4, 5] and scores.levels[0].samples == 2
        assert trainer.evaluate(k=(1, 3), problems=2).levels[0].samples == 3  # beside the others
        assert (scores.folder / "results.md").read_text() == str(scores) == scores._repr_markdown_()

    def test_problems_that_were_trained_on_are_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """More are asked for than were held out; the command line leaves the others out as well.

        Some have numbers of three digits, which is said.
        """
        rows = [{"question": f"What is {a}+{a + 1}?", "answer": str(2 * a + 1)} for a in range(70, 110)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = {"source": str(tmp_path / "rows.jsonl"), "validation_problems": 2, "test_problems": 2}
        trainer = ExPOTrainer(load_config("tiny", run=str(tmp_path / "run"), **{**SMALL, "steps": 1, "data": data}))
        trainer.train()
        said = " ".join(capsys.readouterr().out.split())
        assert f"{OUTSIDE} 11 of 40 problems are others." in said
        (level,) = trainer.evaluate(k=(1,), problems=5).levels
        assert level.problems == 2

    @pytest.mark.slow
    def test_another_judge_makes_no_use_of_old_verdicts(self, tmp_path: Path) -> None:
        config = load_config("tiny", run=str(tmp_path / "run"), **{**SMALL, "steps": 1})
        trainer = ExPOTrainer(config, reward_function=nothing)
        trainer.train()
        trainer.evaluate(k=(1,), problems=1)
        trainer.reward_function = {}.fromkeys  # other code under the same name
        with pytest.raises(ExpoLiteError, match="made with other settings"):
            trainer.evaluate(k=(1,), problems=1)

    def test_before_there_is_an_adapter(self, tmp_path: Path) -> None:
        trainer = ExPOTrainer(load_config("tiny", run=str(tmp_path / "run")))
        with pytest.raises(ConfigError, match="has no adapter yet; train"):
            trainer.evaluate()
        with trainer:
            seen = trainer.explain("What is 12+34?", "46")
            assert seen.after is None and seen.before and list(seen.likelihoods) == ["before"]
            with pytest.raises(ConfigError, match="explained_by: there is no trained model yet"):
                trainer.explain("What is 12+34?", "46", explained_by="trained")

    def test_what_the_shipped_model_does_not_read(self, trainer: ExPOTrainer) -> None:
        with trainer:
            for seen in (trainer.explain("What is 12+7?", "19"), trainer.compare("What is 12+7?")):
                assert seen.note == OUTSIDE and f"note: {OUTSIDE}" in str(seen) and OUTSIDE in seen._repr_markdown_()
            seen = trainer.compare("What is 12+34?")
            assert seen.note is None and "note: " not in str(seen)

    def test_explanations(self, trainer: ExPOTrainer) -> None:
        with trainer:
            seen = trainer.explain("What is 12+17+15+30+28?", "102")
            assert seen.explanation and seen.accepted is (seen.why_rejected is None)
            assert 0 < seen.likelihoods["before"] <= 1 and 0 < seen.likelihoods["after"] <= 1
            assert seen.explained_by == "base" and "explanation by the base, told the answer (" in str(seen)
            assert trainer.explain("What is 12+34?", "46", explained_by="trained").explained_by == "trained"
            with pytest.raises(ExpoLiteError, match="explained_by: should be base or trained"):
                trainer.explain("What is 12+34?", "46", explained_by="me")
            assert "before training (wrong): " in str(seen) and "**What is 12+17+15+30+28?**" in seen._repr_markdown_()
            plain = trainer.compare("What is 12+34?")
            assert plain.explanation is None and plain.accepted is None and plain.likelihoods == {}
            with pytest.raises(ExpoLiteError, match="give the known answer"):
                trainer.explain("What is 12+34?", "")

    def test_records(self, trainer: ExPOTrainer) -> None:
        assert [record["step"] for record in trainer.metrics()] == [1, 2] and trainer.curves.is_file()
        assert {record["kind"] for record in trainer.samples()} == {"rollout", "explanation"}


class TestRewards:
    @pytest.mark.slow
    def test_of_a_function(self, tmp_path: Path) -> None:
        def long(completions: list[str], **columns: Any) -> list[float]:
            return [len(text) / 100 for text in completions]

        config = load_config("tiny", run=str(tmp_path / "run"), **{**SMALL, "steps": 1})
        trainer = ExPOTrainer(config, reward_function=long)
        trainer.train()
        assert re.fullmatch(r"__main__:.*long", str(trainer.config.reward.function))
        rollout = next(record for record in trainer.samples() if record["kind"] == "rollout")
        assert rollout["reward"] == pytest.approx(len(rollout["text"]) / 100)
        assert trainer.evaluate(problems=2, k=(1,)).levels[0].pass_at["base"][1].mean == 0


def test_a_notebook_gets_lines_and_a_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    display = pytest.importorskip("IPython.display")
    import IPython

    seen: list[Any] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"kernel": True})())
    monkeypatch.setattr(display.DisplayHandle, "display", lambda self, image: seen.append(("display", image.data)))
    monkeypatch.setattr(display.DisplayHandle, "update", lambda self, image: seen.append(("update", image.data)))
    show = notebook.live_picture()
    assert show is not None and not notebook.console().is_terminal
    for content in (b"one", b"two"):
        (tmp_path / "curves.png").write_bytes(content)
        show(tmp_path / "curves.png")
    assert seen == [("display", b"one"), ("update", b"two")]
    assert json.dumps(notebook.console().width) == "110"
