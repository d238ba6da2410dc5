"""`expo-lite evaluate`: runs, adapters and models scored, going on after Ctrl-C, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from expo_lite.commands import evaluate, train
from expo_lite.commands.evaluate import read_asked
from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.core.records import Answered, Problem
from expo_lite.grading.evaluator import Evaluator
from expo_lite.problems import load_problems, load_test, tiny_world
from expo_lite.studies.evaluate import scoring
from expo_lite.studies.evaluate.answer_sheet import ANSWERS

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

SMALL = ["--problems", "6", "--k", "1", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, far enough from the base that some answers change."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    flags = [
        "--steps",
        "3",
        "--evaluation.every",
        "3",
        "--optimizer.learning-rate",
        "0.05",
        "--evaluation.samples",
        "1",
    ]
    flags += ["--data.validation-problems", "2", "--data.test-problems", "2", "--rollout.prompts-per-step", "4"]
    assert train.main(["--preset", "tiny", *flags, "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def scored(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its evaluation."""
    to = tmp_path_factory.mktemp("scored")
    assert evaluate.main([str(run), *SMALL, "--to", str(to)]) == 0
    return to


def records(folder: Path, model: str = "") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / ANSWERS).read_text().splitlines()]
    return [record for record in found if model in ("", record["model"])]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def counts(folder: Path, model: str = "base") -> dict[str, tuple[int, int]]:
    return {r["problem"]: (r["correct"], r["truncated"]) for r in records(folder, model)}


class TestScores:
    def test_the_shipped_model(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate.main(["tiny", "--problems", "12", "--k", "1", "4", "--to", str(tmp_path)]) == 0
        levels = results(tmp_path)["levels"]
        shares = [level["pass_at"]["base"]["1"]["mean"] for level in levels]
        assert min(shares[:3]) > 0.8 and max(shares[3:]) == 0
        assert [(level["problems"], level["samples"], level["difference"]) for level in levels] == [(12, 4, {})] * 5
        assert len(records(tmp_path)) == 60 and {r["model"] for r in records(tmp_path)} == {"base"}
        shown = capsys.readouterr().out
        assert "4 samples a problem at temperature 0.7" in shown and f"Results: {tmp_path}" in shown
        assert "| 4 (12) | 4 | 0 [0, 27] | 0 |" in (tmp_path / "results.md").read_text()
        assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")

    def test_a_run_in_pairs(self, scored: Path) -> None:
        """The difference is the adapter's score minus the base's."""
        assert [r["model"] for r in records(scored)] == ["base"] * 30 + ["adapter"] * 30
        assert counts(scored, "base") != counts(scored, "adapter")
        for level in results(scored)["levels"]:
            for k in ("1", "2"):
                means = {model: level["pass_at"][model][k]["mean"] for model in ("base", "adapter")}
                assert level["difference"][k]["mean"] == pytest.approx(means["adapter"] - means["base"])
            correct = [r["correct"] for r in records(scored, "adapter") if r["level"] == level["level"]]
            assert level["pass_at"]["adapter"]["1"]["mean"] == pytest.approx(sum(correct) / 12)

    def test_the_base_is_the_same_alone(self, scored: Path, tmp_path: Path) -> None:
        assert evaluate.main(["tiny", *SMALL, "--to", str(tmp_path)]) == 0
        assert counts(tmp_path) == counts(scored, "base")

    def test_an_adapter_away_from_its_run(self, run: Path, scored: Path, tmp_path: Path) -> None:
        shutil.copytree(run / "adapter", tmp_path / "alone")
        assert evaluate.main([str(tmp_path / "alone"), *SMALL, "--to", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / ANSWERS).read_text() == (scored / ANSWERS).read_text()

    def test_a_file_of_problems(self, run: Path, tmp_path: Path) -> None:
        """All of a test source is answered, by level."""
        problems = [tiny_world.problem((n, 3)) for n in range(20, 24)]
        lines = [
            json.dumps({"question": p.question, "answer": p.answer, "level": 1 + n % 2}) for n, p in enumerate(problems)
        ]
        (tmp_path / "mine.jsonl").write_text("\n".join(lines))
        flags = ["--data.test-source", str(tmp_path / "mine.jsonl"), "--samples", "3", "--k", "1"]
        assert evaluate.main([str(run), *flags, "--to", str(tmp_path / "out")]) == 0
        assert [
            (level["level"], level["problems"], level["samples"]) for level in results(tmp_path / "out")["levels"]
        ] == [
            (1, 2, 3),
            (2, 2, 3),
        ]


class TestGoingOn:
    @pytest.mark.parametrize("torn", ["", '{"model": "base", "prob'])
    def test_interrupted_and_resumed_is_undisturbed(
        self, torn: str, run: Path, scored: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """Ctrl-C in the second chunk, and a crash that left part of the first one's lines."""
        asked: list[int] = []
        whole = Evaluator.answer

        def interrupted(self: Evaluator, problems: Sequence[Problem], *_: Any) -> list[Answered]:
            asked.append(len(problems))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return whole(self, problems)

        command = [str(run), *SMALL, "--to", str(tmp_path), "--memory.rollouts-alive", "16"]
        monkeypatch.setattr(Evaluator, "answer", interrupted)
        monkeypatch.setattr(scoring, "SAVED_AFTER", 1)
        assert evaluate.main(command) == 130
        shown = " ".join(capsys.readouterr().out.split())
        assert shown == f"Stopped; what is answered is kept in {tmp_path}, and the same command goes on from there."
        assert len(records(tmp_path)) == 8 and not (tmp_path / "results.json").exists()
        if torn:
            lines = (tmp_path / ANSWERS).read_text().splitlines(keepends=True)
            (tmp_path / ANSWERS).write_text("".join(lines[:5]) + torn)
        assert evaluate.main(command) == 0
        assert len(asked) == 2 + (8 if torn else 7)  # the chunk that was torn is asked again, and whole
        assert records(tmp_path) == records(scored)
        assert results(tmp_path) == results(scored)

    def test_nothing_is_asked_twice(
        self, run: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another k is worked out from the answers that are there."""
        shutil.copytree(scored, tmp_path / "copy")
        monkeypatch.setattr(Evaluator, "answer", None)
        flags = ["--problems", "6", "--k", "2", "--samples", "2"]
        assert evaluate.main([str(run), *flags, "--to", str(tmp_path / "copy")]) == 0
        assert list(results(tmp_path / "copy")["levels"][0]["pass_at"]["base"]) == ["2"]

    @pytest.mark.parametrize(
        ("flags", "named"),
        [
            (["--temperature", "1"], "temperature 0.7, now 1.0"),
            (["--samples", "3"], "samples 2, now 3"),
            (["--rollout.max-new-tokens", "63"], "max_new_tokens 64, now 63"),
            (["--problems", "5"], "problems "),
            (["--prompt.task", "{question} "], "prompt.task {question}, now {question}"),
            (["--seed", "1"], "seed 0, now 1"),
        ],
    )
    def test_other_settings_are_refused(
        self, flags: list[str], named: str, run: Path, scored: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {path: path.read_bytes() for path in scored.iterdir()}
        assert evaluate.main([str(run), *SMALL, "--to", str(scored), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{scored} holds answers made with other settings ({named}")
        assert line.endswith("); choose another --to")
        assert {path: path.read_bytes() for path in scored.iterdir()} == before

    def test_another_adapter_is_refused(self, scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate.main(["tiny", *SMALL, "--to", str(scored)]) == 2
        assert "other settings (adapter " in capsys.readouterr().err


def test_a_log_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also within a chunk, here of 8 completions, and from what was answered before on."""
    monkeypatch.setattr("expo_lite.runs.display.LOG_SECONDS", 0.0)
    monkeypatch.setattr(scoring, "SAVED_AFTER", 1)
    command = ["tiny", "--problems", "2", "--k", "2", "--memory.rollouts-alive", "8", "--to", str(tmp_path)]

    def told() -> list[int]:
        assert evaluate.main(command) == 0
        found = [re.match(r"base  +(\d+)/20 completions", line) for line in capsys.readouterr().out.splitlines()]
        return [int(line[1]) for line in found if line]

    whole = told()
    assert whole == sorted(whole) and {0, 8, 16, 20} < set(whole) and len(set(whole)) > 6
    lines = (tmp_path / ANSWERS).read_text().splitlines(keepends=True)
    (tmp_path / ANSWERS).write_text("".join(lines[:8]))
    assert told()[:2] == [8, 16]


class TestTargets:
    def test_where_results_go(self, run: Path, tmp_path: Path) -> None:
        assert read_asked([str(run)]).folder == run / "evaluation"
        assert read_asked([str(run / "adapter")]).folder == run / "evaluation"
        assert read_asked([str(run / "checkpoints" / "step_000003")]).folder == run / "evaluation-step_000003"
        assert read_asked(["tiny"]).folder == Path("runs/evaluation-tiny")
        shutil.copytree(run / "adapter", tmp_path / "alone")
        assert read_asked([str(tmp_path / "alone")]).folder == Path("runs/evaluation-alone")
        assert read_asked(["tiny", "--to", "x"]).folder == Path("x")

    def test_a_runs_own_settings_and_its_adapter(self, run: Path) -> None:
        for name in (run, run / "adapter"):
            asked = read_asked([str(name), "--k", "3", "1"])
            assert asked.config.policy.adapter == str(run / "adapter")
            assert (asked.config.data.test_problems, asked.config.evaluation.samples, asked.ks) == (2, 3, [1, 3])
            assert asked.target.run is not None and asked.target.run.path == run

    def test_an_adapter_on_another_model(self, run: Path, tmp_path: Path) -> None:
        """Its base, rank and alpha are its own; the rest are defaults, or a preset."""
        shutil.copytree(run / "adapter", tmp_path / "alone")
        path = tmp_path / "alone" / "adapter_config.json"
        path.write_text(json.dumps({"base_model_name_or_path": "some/model", "r": 4, "lora_alpha": 8}))
        for flags in (["--data.source", "x.jsonl"], ["--preset", "24gb"]):
            policy = read_asked([str(tmp_path / "alone"), *flags]).config.policy
            assert (policy.model, policy.lora_rank, policy.lora_alpha) == ("some/model", 4, 8)
        with pytest.raises(ConfigError, match=r"^data.source: name the problems that .*/alone should answer"):
            read_asked([str(tmp_path / "alone")])

    def test_a_run_without_an_adapter_yet(self, run: Path, tmp_path: Path) -> None:
        shutil.copy(run / "config.yaml", tmp_path)
        with pytest.raises(ConfigError, match="has no adapter yet"):
            read_asked([str(tmp_path)])


class TestProblems:
    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        lines = [json.dumps({"question": f"{n}+1", "answer": str(n + 1)}) for n in range(160)]
        (tmp_path / "mine.jsonl").write_text("\n".join(lines))
        return str(tmp_path / "mine.jsonl")

    def test_more_than_a_run_held_out_were_trained_on(self, file: str) -> None:
        trained = DataConfig(source=file, validation_problems=4, test_problems=4, levels={1: 1})
        more = trained.model_copy(update={"test_problems": 12})
        problems, notes = load_test(more, trained)
        assert problems == load_problems(trained).test and len(load_test(more)[0]) == 12
        assert notes[-1] == "8 of this run's training problems are left out"
        fewer = trained.model_copy(update={"test_problems": 3})
        assert load_test(fewer, trained)[0] == problems[:3]

    def test_all_were_trained_on(self, file: str) -> None:
        trained = DataConfig(source=file, levels={1: 1})
        seen = load_problems(trained).train[:5]
        Path(file).with_name("seen.jsonl").write_text(
            "\n".join(json.dumps({"question": p.question, "answer": p.answer}) for p in seen)
        )
        with pytest.raises(DataError, match="trained on all of these"):
            load_test(DataConfig(test_source=str(Path(file).with_name("seen.jsonl"))), trained)

    def test_training_problems_that_are_gone(self, file: str) -> None:
        problems, notes = load_test(DataConfig(test_source=file, test_problems=7), DataConfig(source="gone.jsonl"))
        assert len(problems) == 7 and notes[-1].startswith("it is not known whether this run was trained on some")


class TestCommandLine:
    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            ([], "the following arguments are required: TARGET"),
            (["--k", "4", "tiny"], "TARGET: comes first, "),
            (["runs/nowhere"], "TARGET: there is no run runs/nowhere"),
            (["./nowhere"], "TARGET: there is no folder ./nowhere; name a run, an adapter, a model, tiny or a Hub id"),
            (["some/x.gguf"], "TARGET: should be a folder or a Hub id: a GGUF file is an export, "),
            (["EMPTY"], "TARGET: EMPTY holds neither a run (config.yaml) nor an adapter "),
            (["tiny", "--k", "0"], "--k: should be 1 or more (got 0)"),
            (["tiny", "--k", "4", "--samples", "2"], "--samples: pass@4 needs at least 4 samples per problem (got 2)"),
            (["tiny", "--problems", "0"], "data.test_problems: should be greater than 0"),
            (["tiny", "--temperature", "-1"], "rollout.temperature: should be greater than 0"),
            (["tiny", "--preset", "tiny", "--config", "x.yaml"], "--config: not allowed with argument --preset"),
            (["RUN", "--preset", "tiny"], "--preset: leave it out; RUN has the settings of its run"),
            (["RUN", "--config", "x.yaml"], "--config: leave it out; RUN has the settings of its run"),
            (["RUN", "--policy.model", "tiny"], "--policy.model: leave it out; RUN says which model it is"),
            (["tiny", "--policy.adapter", "x"], "--policy.adapter: leave it out; name the adapter as TARGET"),
            (["tiny", "--resume"], "--resume: leave it out; an interrupted evaluation goes on by itself"),
            (["tiny", "--evaluation.samples=8"], "--evaluation.samples: leave it out; give --samples"),
            (["tiny", "--rollout.temprature", "1"], "rollout.temprature: unknown setting (did you mean rollout.temp"),
        ],
    )  # fmt: skip
    def test_what_is_refused(
        self, argv: list[str], message: str, run: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        (tmp_path / "EMPTY").mkdir()
        shutil.copytree(run, tmp_path / "RUN")
        before = sorted(tmp_path.rglob("*"))
        assert evaluate.main(argv) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(message)
        assert sorted(tmp_path.rglob("*")) == before

    def test_help_loads_no_torch(self, tmp_path: Path) -> None:
        code = (
            "import sys; from expo_lite.commands import evaluate\n"
            "try: evaluate.main(['--help'])\n"
            "finally: assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: expo-lite evaluate TARGET ")
