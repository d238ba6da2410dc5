"""Comparisons: what is trained, what is not trained again, what is refused, and every number of the report by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from math import comb
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from support.run_folders import write_run
from support.scripted_trainings import Counts, Script, levels

from expo_lite.commands import study as compare
from expo_lite.config.flags import as_flags
from expo_lite.config.methods import METHODS
from expo_lite.core.errors import ExpoLiteError
from expo_lite.grading.intervals import Estimate
from expo_lite.memory.forecast import longest_share
from expo_lite.runs.folder import METRICS, RunDir
from expo_lite.runs.on_card import forecast_on
from expo_lite.studies.methods import study
from expo_lite.studies.methods.jobs import Job, run_all
from expo_lite.studies.methods.lines import forgetting, stacked
from expo_lite.studies.methods.pictures import PITCH, plot_scores
from expo_lite.studies.methods.progress import JobsDisplay, Tally
from expo_lite.studies.methods.request import StudyRequest
from expo_lite.studies.methods.trials import Outcome, Trial, begin_from
from expo_lite.studies.methods.variants import ablations, methods

RATES = ("1e-4", "5e-4", "1e-3")
SMALL = ["--preset", "tiny", "--steps", "4", "--learning-rates", *RATES]
SMALL += ["--problems", "2", "--samples", "4", "--k", "2", "--methods", "grpo", "expo", "--seeds", "0", "1"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """ExP-GRPO generates half more than GRPO, is as good with its two highest rates, and learns level 2."""
    expo = {"generated_tokens": 150, "groups_taught": 12, "failed_groups": 8, "rescued_groups": 6}
    expo |= {"explanations_trained": 10, "explanations_trained_wrong_steps": 1, "train_seconds": 30.0}
    grpo = {"generated_tokens": 100, "groups_taught": 4, "failed_groups": 8, "rescued_groups": 0}
    found = Script(
        metrics={"expo": expo, "grpo": {**grpo, "generate_seconds": 2.0, "train_seconds": 0.5}},
        validation={("expo", 1e-4): 0.5, ("expo", 5e-4): 0.7, ("expo", 1e-3): 0.7, ("grpo", 1e-4): 0.6},
        answers={
            ("grpo", 0): {1: [4, 4], 2: [0, 1]},
            ("grpo", 1): {1: [4, 4], 2: [2, 0]},
            ("expo", 0): {1: [4, 2], 2: [4, 1]},
            ("expo", 1): {1: [4, 4], 2: [2, 3]},
        },
    )
    monkeypatch.setattr(study, "run_all", found.run_all)
    return found


@pytest.fixture
def report(script: Script, tmp_path: Path) -> str:
    """The report of that comparison, in tmp_path."""
    assert compare.main([*SMALL, "--to", str(tmp_path)]) == 0
    return (tmp_path / "report.md").read_text()


def asked_for(root: Path, *flags: str) -> StudyRequest:
    return compare.read_asked([], *compare._parser().parse_known_args([*SMALL, *flags, "--to", str(root)]))


def trial(root: Path, name: str = "expo", steps: int = 4, seed: int = 0, longer: bool = False, *flags: str) -> Trial:
    return Trial(methods([name])[0], 5e-4, seed, steps, asked_for(root, *flags), longer)


def cells(text: str, title: str, row: str) -> list[str]:
    """The cells of one row of the table below a heading."""
    table = text[text.index(f"## {title}") :].partition("\n## ")[0]
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("| ").split("|")][1:]


class TestWhatIsTrained:
    def test_the_best_rate_on_validation_and_the_lowest_of_equals(self, report: str, script: Script) -> None:
        searched = ["grpo-rate0.0001-seed0", "grpo-rate0.0005-seed0", "grpo-rate0.001-seed0"]
        searched += ["expo-rate0.0001-seed0", "expo-rate0.0005-seed0", "expo-rate0.001-seed0"]
        seeds = ["grpo-rate0.0001-seed1", "expo-rate0.0005-seed1"]
        longer = ["grpo-rate0.0001-seed0-equal-tokens", "grpo-rate0.0001-seed1-equal-tokens"]
        assert script.names("train") == searched + seeds + longer

    def test_rates_in_any_order(self, script: Script, tmp_path: Path) -> None:
        trials = [trial(tmp_path), trial(tmp_path)]
        for one, rate in zip(trials, (1e-3, 5e-4), strict=True):
            object.__setattr__(one, "rate", rate)
            script.train(one.job())
        assert study.best_rate(trials) == 5e-4

    def test_as_many_steps_as_give_equal_tokens(self, report: str, tmp_path: Path) -> None:
        """Four steps of 150 tokens are 600; steps of 100 need six."""
        longer = RunDir(tmp_path / "grpo-rate0.0001-seed1-equal-tokens")
        assert sum(record["generated_tokens"] for record in longer.read(METRICS)) == 600
        assert cells(report, "pass@2 after equal steps", "GRPO")[-2:] == ["4", "0k"]
        assert cells(report, "pass@2 after equal generated tokens", "GRPO")[-2:] == ["6", "1k"]
        assert cells(report, "pass@2 after equal generated tokens", "ExP-GRPO")[-2:] == ["4", "1k"]

    def test_each_seed_has_its_own_budget(self, script: Script, tmp_path: Path) -> None:
        """Tokens of the second seed's expo would give nine steps, of the first six."""
        asked = asked_for(tmp_path)
        trials = {v: [trial(tmp_path, v.name, seed=seed) for seed in (0, 1)] for v in asked.compared}
        for seed, tokens in ((0, 150), (1, 225)):
            script.metrics["expo"]["generated_tokens"] = tokens
            for of_variant in trials.values():
                script.train(of_variant[seed].job())
        with study.Study(asked, compare.Console()) as ours:
            (grpo, expo) = ours.to_equal_tokens(trials).values()
        assert [one.steps for one in grpo] == [6, 9] and [one.steps for one in expo] == [4, 4]

    def test_only_a_constant_schedule_is_gone_on_with(self, script: Script, tmp_path: Path) -> None:
        for schedule in ("optimizer.schedule", "explanation.schedule", None):
            root = tmp_path / str(schedule)
            flags = (f"--{schedule}", "linear") if schedule else ()
            short, long = trial(root, "expo", 4, 0, False, *flags), trial(root, "expo", 6, 0, True, *flags)
            script.train(short.job())
            (short.run.path / "comparison").mkdir()
            begin_from(short, long)
            assert long.run.path.exists() == (schedule is None)
            assert ("--resume" in long.job().arguments) == (schedule is None)
        assert len(long.run.read(METRICS)) == 4 and not (long.run.path / "comparison").exists()

    def test_what_is_there_is_not_copied_over(self, script: Script, tmp_path: Path) -> None:
        short, long = trial(tmp_path), trial(tmp_path, steps=6, longer=True)
        script.train(short.job())
        begin_from(short, long)
        script.train(long.job())
        begin_from(short, long)
        assert len(long.run.read(METRICS)) == 6 and long.finished

    def test_a_job_begins_or_goes_on(self, script: Script, tmp_path: Path) -> None:
        one = trial(tmp_path, seed=3)
        place = ("--run", str(tmp_path / "expo-rate0.0005-seed3"), "--steps", "4")
        own = ("--seed", "3", "--optimizer.learning-rate", "0.0005")
        assert one.job().arguments == ("train", "--preset", "tiny", *as_flags(METHODS["expo"].settings), *own, *place)
        one.run.path.mkdir()  # stopped before it had settings
        assert "--resume" not in one.job().arguments
        script.train(one.job())
        assert one.job().arguments == ("train", "--resume", *place)

    def test_ablations_need_expo_and_its_rate(self, script: Script, tmp_path: Path) -> None:
        argv = [*SMALL, "--to", str(tmp_path), "--ablations"]
        argv[argv.index("expo") : argv.index("expo") + 1] = []
        assert compare.main(argv) == 0
        names = script.names("train")
        assert "expo-rate0.0005-seed1" in names and "ablation-every-rate0.0005-seed1" in names
        assert len(names) == len(set(names)) == 3 + 3 + 2 + 2 * len(ablations())
        text = (tmp_path / "report.md").read_text()
        table = text[text.index("## ExP-GRPO with one setting changed: pass@1 (%)") :].splitlines()[2:]
        assert len(table) == 3 + len(ablations()) and table[2].startswith("| ExP-GRPO | 88 [")
        assert cells(text, "ExP-GRPO with one setting changed", "ExP-GRPO")[2:5] == ["", "", "–"]
        assert cells(text, "ExP-GRPO with one setting changed", "K = 1")[2].startswith("+0 [")
        assert "ExP-GRPO |" not in text[: text.index("## Learning rates")]


class TestGoingOn:
    def test_nothing_is_done_twice(self, report: str, script: Script, tmp_path: Path) -> None:
        script.jobs.clear()
        assert compare.main([*SMALL, "--to", str(tmp_path)]) == 0
        assert script.jobs == [] and (tmp_path / "report.md").read_text() == report

    @pytest.mark.parametrize("state", ["running", "stopped", "failed"])
    def test_an_unfinished_one_is_resumed(self, state: str, report: str, script: Script, tmp_path: Path) -> None:
        script.jobs.clear()
        RunDir(tmp_path / "expo-rate0.0005-seed1").status(2, state=state, steps=4)
        assert compare.main([*SMALL, "--to", str(tmp_path)]) == 0
        (job,) = script.jobs
        assert job.name == "expo-rate0.0005-seed1" and job.arguments[:2] == ("train", "--resume")

    def test_more_steps_go_on_and_are_scored_anew(self, report: str, script: Script, tmp_path: Path) -> None:
        script.jobs.clear()
        longer = [*SMALL, "--to", str(tmp_path)]
        longer[longer.index("4")] = "5"
        assert compare.main(longer) == 0
        resumed = [job.name for job in script.jobs if job.arguments[0] == "train" and "--resume" in job.arguments]
        assert resumed == script.names("train") and len(resumed) == 10  # the longer ones from 6 steps to 8
        assert len(RunDir(tmp_path / "grpo-rate0.0001-seed0-equal-tokens").read(METRICS)) == 8
        assert len(script.names("evaluate")) == 6

    def test_another_first_method_answers_as_the_base(self, report: str, script: Script, tmp_path: Path) -> None:
        """The base's answers lie with the first adapter's."""
        script.jobs.clear()
        turned = [*SMALL, "--to", str(tmp_path)]
        place = turned.index("grpo")
        turned[place : place + 2] = ["expo", "grpo"]
        assert compare.main(turned) == 0
        assert script.names("evaluate") == ["expo-rate0.0005-seed0"] and "--only" not in script.jobs[0].arguments
        text = (tmp_path / "report.md").read_text()
        assert cells(text, "pass@2 after equal steps", "base") == cells(report, "pass@2 after equal steps", "base")

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--steps", "3"], "--to: {}/grpo-rate0.0001-seed0 was trained with steps 4 (now 3); choose another"),
            (["--kl.coef", "0.1"], "--to: {}/grpo-rate0.0001-seed0 was trained with kl.coef 0.0 (now 0.1); choose"),
            (["--problems", "3"], "--problems: was 2 in {} (got 3); choose another --to"),
            (["--samples", "8"], "--samples: was 4 in {} (got 8); choose another --to"),
        ],
    )
    def test_another_comparison_in_its_folder(
        self, flags: list[str], message: str, report: str, script: Script, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        script.jobs.clear()
        capsys.readouterr()
        assert compare.main([*SMALL, "--to", str(tmp_path), *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(message.format(tmp_path)) and script.jobs == []

    def test_more_steps_of_a_schedule_that_ends_with_the_last(self, script: Script, tmp_path: Path) -> None:
        flags = ("--optimizer.schedule", "linear")
        short, long = (trial(tmp_path, "grpo", steps, 0, False, *flags) for steps in (4, 6))
        script.train(short.job())
        short.refuse_another()
        with pytest.raises(ExpoLiteError, match=r"was trained with steps 4 \(now 6\)"):
            long.refuse_another()

    def test_one_at_a_time(self, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with study.Study(asked_for(tmp_path), compare.Console()):
            assert compare.main([*SMALL, "--to", str(tmp_path)]) == 2
        assert capsys.readouterr().err.startswith(f"{tmp_path} is in use by another process (pid ")

    def test_what_is_said_on_the_way(self, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert compare.main([*SMALL, "--to", str(tmp_path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1] == "grpo-rate0.0001-seed0: 1 min; 1 of 8 trainings, about 7 min to go"
        assert "expo-rate0.0005-seed1: 1 min; 8 of 8 trainings" in lines
        assert "grpo-rate0.0001-seed1-equal-tokens: 1 min; 10 of 10 trainings" in lines
        assert lines[-1] == f"Report: {tmp_path / 'report.md'}"

    def test_a_log_says_at_once_what_is_under_way(self, tmp_path: Path) -> None:
        """And then every half minute."""
        console, now = Console(file=StringIO(), width=200), [0.0]
        display = JobsDisplay(console, Tally(3, "trainings", 2, {"a"}), tmp_path, clock=lambda: now[0])
        jobs = [Job(name, "m", (), tmp_path / "log") for name in ("b", "c")]
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "status.json").write_text('{"state": "running", "step": 3, "steps": 9, "heartbeat": 1}')
        with display:
            for now[0] in (0.0, 5.0, 29.0, 31.0):
                display.watch(jobs)
        said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert said == ["1 of 3 trainings; now b step 3/9, c"] * 2

    @pytest.mark.parametrize("width", [80, 120])
    def test_a_terminal_shows_each_training_and_the_time_left(self, width: int, tmp_path: Path) -> None:
        """A third of one of two is done after 10 s: 50 s are left then."""
        console, now = Console(file=StringIO(), width=width, force_terminal=True), [0.0]
        display = JobsDisplay(console, Tally(2, "trainings", 1), tmp_path, clock=lambda: now[0])
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "status.json").write_text('{"state": "running", "step": 3, "steps": 9, "heartbeat": 1}')
        display.watch([Job("b", "m", (), tmp_path / "log")])
        now[0] = 10.0
        display.rows()
        now[0] = 15.0  # nothing has ended since
        shown = Console(file=StringIO(), width=width, color_system=None)
        shown.print(display.rows())
        whole, one, *_ = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert whole.split()[:2] == ["trainings", "0/2"] and "0:00:45 left" in whole
        assert one.split()[:2] == ["step", "3/9"] and one.rstrip().endswith(" b")

    def test_how_long_the_rest_takes(self) -> None:
        """Three that are left take two rounds of two; what was done before says nothing of the pace."""
        tally = Tally(6, "trainings", at_once=2, done={"a", "b"})
        assert tally.add("c", 120.0) == "c: 2 min; 3 of 6 trainings, about 3 min to go"
        assert tally.add("d", 240.0) == "d: 4 min; 4 of 6 trainings, about 3 min to go"
        assert tally.add("e", 180.0) == "e: 3 min; 5 of 6 trainings, about 3 min to go"
        assert tally.add("f", 1.0) == "f: 1.0 s; 6 of 6 trainings"


def closed_form(counts: list[list[int]], k: int, samples: int = 4) -> float:
    """pass@k over seeds and problems."""
    each = [1 - comb(samples - c, k) / comb(samples, k) for of_seed in counts for c in of_seed]
    return sum(each) / len(each)


ONE = Estimate(1.0, 0.9, 1.0)


class TestReport:
    def test_scores_are_the_closed_form(self, report: str, script: Script, tmp_path: Path) -> None:
        found = json.loads((tmp_path / "report.json").read_text())
        for name, title in (("grpo", "GRPO"), ("expo", "ExP-GRPO")):
            for k in (1, 2):
                row = cells(report, f"pass@{k} after equal steps", title)
                for column, level in enumerate((1, 2)):
                    mean = closed_form([script.answers[name, seed][level] for seed in (0, 1)], k)
                    recorded = found["steps"][title][f"pass_at_{k}"][str(level)]
                    assert recorded["mean"] == pytest.approx(mean)
                    low, high = 100 * recorded["low"], 100 * recorded["high"]
                    assert row[column] == f"{100 * mean:.0f} [{low:.0f}, {high:.0f}]"
        assert cells(report, "pass@2 after equal steps", "ExP-GRPO")[1].startswith("83 [")
        assert cells(report, "pass@1 after equal steps", "base")[0].startswith("100 [")
        assert found["base"]["pass_at_2"]["2"]["mean"] == 0

    def test_differences_are_the_lower_line_minus_the_upper(self, report: str) -> None:
        row = cells(report, "Differences of pass@2", "ExP-GRPO − GRPO")
        assert row[0].startswith("-4 [") and row[1].startswith("+50 [") and "| GRPO − " not in report

    def test_what_it_took(self, report: str) -> None:
        """Of 16 prompts 4 taught and 12; of 8 failed ones none was rescued, and 6; half of 4 answers are lost once."""
        assert cells(report, "What it took", "GRPO") == ["10 s", "75.0", "0.0", "–", "0"]
        assert cells(report, "What it took", "ExP-GRPO") == ["2 min", "25.0", "75.0", "10.0", "12"]

    def test_the_chosen_rate_is_bold(self, report: str) -> None:
        assert cells(report, "Learning rates", "GRPO") == ["**60.0** (end of the grid)", "50.0", "50.0"]
        assert cells(report, "Learning rates", "ExP-GRPO") == ["50.0", "**70.0**", "70.0"]
        assert "|  | 0.0001 | 0.0005 | 0.001 |" in report

    def test_plain_values(self, report: str, tmp_path: Path) -> None:
        found = json.loads((tmp_path / "report.json").read_text())
        assert found["validation_by_rate"]["expo"] == pytest.approx({"0.0001": 0.5, "0.0005": 0.7, "0.001": 0.7})
        assert found["ablations"] == {} and found["tokens"]["GRPO"]["seeds"]["1"]["steps"] == 6
        seed = found["steps"]["ExP-GRPO"]["seeds"]["1"]
        assert seed["pass_at_1"] == {"1": 1.0, "2": 5 / 8} and seed["rate"] == 5e-4
        assert (seed["taught_nothing_share"], seed["rescued_share"], seed["wrong_steps_share"]) == (0.25, 0.75, 0.1)
        assert seed["curve"]["4"] == pytest.approx({"1": 0.65, "2": 0.75}) and seed["generated_tokens"] == 600

    def test_heading(self, report: str, tmp_path: Path) -> None:
        """The command as it was given, however it was started."""
        command = f"    expo-lite study {' '.join([*SMALL, '--to', str(tmp_path)])}\n"
        assert report.startswith(f"# Comparison on tiny with tiny\n\n{command}")
        assert (
            "2 seeds; 4 steps of 16 problems and 8 rollouts." in report and "2 test problems a level, 4 ans" in report
        )
        assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")

    def test_one_seed_of_one_method(self, script: Script, tmp_path: Path) -> None:
        command = ["--preset", "tiny", "--steps", "4", "--learning-rates", "5e-4", "--samples", "4", "--k", "1"]
        assert compare.main([*command, "--methods", "grpo", "--seeds", "7", "--to", str(tmp_path)]) == 0
        text = (tmp_path / "report.md").read_text()
        assert "1 seed;" in text and "over problems.\n" in text and "Differences" not in text
        assert text.count("## pass@1 after equal steps") == 1 and script.names("train") == ["grpo-rate0.0005-seed7"]

    def test_a_row_for_each_method_and_a_number_for_each_level(self) -> None:
        """Each dot within its interval, in its method's row and its level's column."""
        scores = {"base": {4: Estimate(0.0, 0.0, 0.03), 5: Estimate(0.5, 0.4, 0.6)}, "GRPO": {4: ONE, 5: ONE}}
        axes = Figure().add_subplot()
        plot_scores(axes, scores, 4)
        assert [text.get_text() for text in axes.texts] == ["0", "50", "100", "100"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["base", "GRPO"]
        dot, interval = axes.lines[3], axes.collections[1].get_segments()[0]  # type: ignore[attr-defined]
        assert [x - PITCH for x, _ in interval] == pytest.approx([0.4, 0.6])  # of the base on the second level
        assert [*dot.get_xdata(), *dot.get_ydata()] == pytest.approx([PITCH + 0.5, 0])

    @pytest.mark.parametrize(
        ("counts", "expected"),
        [({1: [4, 2], 2: [4, 4]}, 0.25), ({1: [4, 4], 2: [1, 2]}, 0.0), ({1: [0, 0], 2: [3, 3]}, 1)],
    )
    def test_forgetting_is_the_worst_level(self, counts: Counts, expected: float) -> None:
        assert forgetting(stacked([counts]), stacked([{1: [4, 4], 2: [0, 0]}]), samples=4) == expected


class TestOutcome:
    def test_by_hand(self, tmp_path: Path) -> None:
        first = {"generated_tokens": 10, "groups_taught": 1, "failed_groups": 2, "rescued_groups": 1}
        first |= {"explanations_trained": 3, "generate_seconds": 1.0, "verify_seconds": 0.5, "validation_seconds": 99}
        second = {"generated_tokens": 20, "groups_taught": 3, "failed_groups": 2, "rescued_groups": 0}
        second |= {"explanations_trained": 4, "explanations_trained_wrong_steps": 1, "explain_seconds": 2.0}
        scored = [(0, "base_validation", 0.9), (1, "validation", 0.6), (2, "validation", 0.5), (2, "test", 0.95)]
        evaluations = [{"step": step, "name": name, "levels": levels(mean)} for step, name, mean in scored]
        run = write_run(tmp_path, [first, second], evaluations, rollout__prompts_per_step=4)
        outcome = Outcome.of(run)
        assert (outcome.validation, outcome.seconds, outcome.generated_tokens) == (pytest.approx(0.6), 3.5, 30)
        assert (outcome.taught_nothing_share, outcome.rescued_share, outcome.wrong_steps_share) == (0.5, 0.25, 0.25)
        assert list(outcome.curve) == [0, 1, 2] and outcome.curve[2] == pytest.approx({1: 0.45, 2: 0.55})


class TestCommandLine:
    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--methods", "grpo", "exp"], "--methods: there is no 'exp' (available: grpo, expert, expert-every, "),
            (["--run", "x"], "--run: leave it out; --to names the folder of all trainings"),
            (["--seed=3"], "--seed: leave it out; give --seeds"),
            (["--resume"], "--resume: leave it out; an interrupted comparison goes on by itself"),
            (["--optimizer.learning_rate", "1"], "--optimizer.learning-rate: leave it out; give --learning-rates"),
            (["--explanation.source", "self"], "--explanation.source: leave it out; give --methods"),
            (["--objective.name=dpo"], "--objective.name: leave it out; give --methods"),
            (["--explanation.gate", "every"], "--explanation.gate: leave it out; give --methods"),
            (["--dpo.pairs", "online"], "--dpo.pairs: leave it out; give --methods"),
            (["--steps", "0"], "--steps: should be at least 1 (got 0)"),
            (["--problems", "0"], "--problems: should be at least 1 (got 0)"),
            (["--samples", "0"], "--samples: should be at least 1 (got 0)"),
            (["--jobs", "-1"], "--jobs: should be at least 1 (got -1)"),
            (["--k", "0"], "--k: should be at least 1 (got 0)"),
            (["--k", "8", "--samples", "4"], "--k: pass@8 needs at least 8 samples per problem (got 4)"),
            (["--seeds", "-1", "2"], "--seeds: should be 0 or more (got -1)"),
            (["--seeds", "one"], "--seeds: invalid int value: 'one'"),
            (["--learning-rates", "1e-4", "0"], "--learning-rates: should be greater than 0 (got 0)"),
            (["--learning-rates", "nan"], "--learning-rates: should be greater than 0 (got nan)"),
            (["--card", "RTX 1"], "--card: there is no 'RTX 1' ("),
            (["--kl.coef", "0.1"], "kl.coef: DPO"),  # of one of the methods only
            (["--rollout.group-siz", "2"], "rollout.group_siz: unknown setting (did you mean rollout.group_size?"),
            (["--to", "file"], "--to: file cannot be written (File exists)"),
        ],
    )
    def test_what_is_refused(
        self, argv: list[str], message: str, script: Script, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        Path("file").write_text("")
        assert compare.main(["--preset", "tiny", *argv]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(message)
        assert [path.name for path in tmp_path.iterdir()] == ["file"] and script.jobs == []

    def test_without_a_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert compare.main(["--steps", "2"]) == 2
        assert capsys.readouterr().err.startswith("preset: name one; ")

    def test_settings_are_every_trainings_and_nothing_else(self) -> None:
        argv = ["--preset", "tiny", "--jobs", "3", "--dry-run", "--data.levels", "1=1", "--seeds", "4", "2", "4"]
        argv += ["--methods", "expo", "grpo", "expo", "--learning-rates", "2e-4", "1e-4", "0.0002"]
        asked = compare.read_asked(argv, *compare._parser().parse_known_args(argv))
        assert asked.settings == ("--preset", "tiny", "--data.levels", "1=1") and asked.words == tuple(argv)
        assert (asked.methods, asked.seeds, asked.rates) == (("expo", "grpo"), (2, 4), (1e-4, 2e-4))
        assert (asked.steps, asked.jobs, asked.ks) == (100, 3, [4, 1])

    def test_rates_are_multiples_of_the_presets(self) -> None:
        asked = compare.read_asked([], *compare._parser().parse_known_args(["--preset", "tiny"]))
        assert asked.rates == (1e-4, 2e-4, 5e-4, 1e-3)

    @pytest.mark.parametrize(
        ("flags", "start"),
        [
            ([], "40 trainings of 100 steps: 5 methods with 5 seeds and 15 more to find learning rates; then "),
            (["--learning-rates", "1e-3", "--seeds", "1"], "5 trainings of 100 steps: 5 methods with 1 seed; then "),
            (
                ["--ablations", "--methods", "grpo", "--seeds", "0", "1", "--steps", "7"],
                f"{2 * 5 + 2 * len(ablations())} trainings of 7 steps: 2 methods with 2 seeds and 6 more to find "
                f"learning rates, {len(ablations())} ablations; then ",
            ),
        ],
    )
    def test_a_dry_run_counts(self, flags: list[str], start: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert compare.main(["--preset", "tiny", "--dry-run", *flags]) == 0
        assert capsys.readouterr().out.startswith(start)

    def test_what_it_costs_on_a_card(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Each method trained eight times; GRPO writes fewer tokens than ExPO."""
        assert compare.main(["--preset", "24gb", "--card", "rtx 4090", "--dry-run"]) == 0
        said = capsys.readouterr().out
        found = re.search(
            r"On one RTX 4090 a training takes about ([\d.]+) h to ([\d.]+) h, all of them ([\d.]+) h, "
            r"and the scores of 25 adapters and the base ([\d.]+) h more",
            said,
        )
        assert found is not None
        shortest, longest, total, scores = map(float, found.groups())
        asked = compare.read_asked([], *compare._parser().parse_known_args(["--preset", "24gb"]))
        runs = [forecast_on(compare.config_of(asked, variant), "RTX 4090") for variant in asked.compared]
        hours = [run.forecast.total / 3600 for run in runs]
        assert (shortest, longest) == pytest.approx((min(hours), max(hours)), abs=0.05) and shortest < longest
        assert total == pytest.approx(8 * sum(hours), abs=0.05)
        answers = 26 * 5 * 256 * 16  # adapters and base, levels, problems, answers
        turns = answers / (96 * 7 / 8)  # rollouts alive, seven eighths of them being written
        host = (28 * 54 + 100) * 20e-6  # launches a token, seconds a launch
        assert scores == pytest.approx(turns * longest_share(1) * 1536 * host / 3600, rel=0.02)

    def test_a_dry_run_loads_no_torch(self, tmp_path: Path) -> None:
        argv = ["--preset", "24gb", "--card", "RTX 4090", "--dry-run"]
        code = (
            f"import sys; from expo_lite.commands import study; assert study.main({argv}) == 0\n"
            "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        assert list(tmp_path.iterdir()) == []


WORKER = """
import signal, sys, time
kind, name = sys.argv[1:]
terms = []

def say(word):
    with open("events", "a") as file:
        file.write(f"{word} {name}\\n")

def asked(*_):
    terms.append(1)
    say("asked")

signal.signal(signal.SIGTERM, asked)
say("begin")
if kind == "fails":
    while "begin waits" not in open("events").read():
        time.sleep(0.02)
    print(*(f"line {n}" for n in range(9)), sep="\\n")
    sys.exit(3)
if kind == "short":
    time.sleep(0.2)
while kind == "waits" and not terms or kind == "stubborn" and len(terms) < 2:
    time.sleep(0.02)
say("end")
"""


class TestJobs:
    @pytest.fixture
    def job(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Job]:
        (tmp_path / "worker.py").write_text(WORKER)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        return lambda kind, name: Job(name, "worker", (kind, name), tmp_path / "logs" / f"{name}.log")

    @staticmethod
    def events() -> list[str]:
        return Path("events").read_text().splitlines()

    @pytest.mark.parametrize("at_once", [1, 2])
    def test_in_order_and_so_many_at_a_time(self, at_once: int, job: Callable[[str, str], Job]) -> None:
        done: list[tuple[str, bool]] = []
        run_all([job("short", str(n)) for n in range(4)], at_once, lambda job, s: done.append((job.name, s > 0.1)))
        running = [word == "begin" for word, _ in map(str.split, self.events())]
        most = max(sum(1 if begin else -1 for begin in running[: n + 1]) for n in range(len(running)))
        assert most == at_once and sorted(done) == [(str(n), True) for n in range(4)]
        if at_once == 1:
            assert [name for name, _ in done] == ["0", "1", "2", "3"]

    @pytest.mark.parametrize(
        ("at_once", "own", "share"), [(1, None, "None"), (3, None, "2"), (9, None, "1"), (3, "5", "5")]
    )
    def test_threads_are_shared(
        self, at_once: int, own: str | None, share: str, job: Callable[[str, str], Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of eight processors; a number that the user has set stays."""
        Path("threads.py").write_text("import os; print(os.environ.get('OMP_NUM_THREADS'))")
        monkeypatch.setattr("os.cpu_count", lambda: 8)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if own:
            monkeypatch.setenv("OMP_NUM_THREADS", own)
        asked = replace(job("", "asked"), module="threads")
        run_all([asked], at_once, lambda *_: None)
        assert asked.log.read_text().strip() == share

    def test_one_fails(self, job: Callable[[str, str], Job]) -> None:
        jobs = [job("waits", "waits"), job("fails", "fails"), job("short", "never")]
        with pytest.raises(ExpoLiteError) as error:
            run_all(jobs, 2, lambda *_: None)
        lines = str(error.value).splitlines()
        assert lines == [
            "-m worker fails fails",
            f"ended with status 3 ({jobs[1].log}):",
            *(f"line {n}" for n in range(4, 9)),
        ]
        assert self.events().count("asked waits") == 1 and self.events()[-1] == "end waits"
        assert "begin never" not in self.events()

    def interrupted(self, jobs: list[Job], *signals: signal.Signals) -> list[str]:
        """Run the jobs, and send the signals to this process: each once all have heard of the one before."""

        def send() -> None:
            heard = "begin"
            for name in signals:
                while sum(event.startswith(heard) for event in self.events_so_far()) < len(jobs):
                    time.sleep(0.02)
                os.kill(os.getpid(), name)
                heard = "asked"

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        notes: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            run_all(jobs, 2, lambda *_: None, lambda text, **_: notes.append(text))
        sender.join()
        return notes

    def events_so_far(self) -> list[str]:
        return self.events() if Path("events").exists() else []

    @pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
    def test_asked_to_stop(self, name: signal.Signals, job: Callable[[str, str], Job]) -> None:
        notes = self.interrupted([job("waits", "a"), job("waits", "b")], name)
        assert sorted(self.events()[2:]) == ["asked a", "asked b", "end a", "end b"] and len(notes) == 1

    def test_asked_twice(self, job: Callable[[str, str], Job]) -> None:
        """A second Ctrl-C reaches trainings that finish their step, and leaves none behind."""
        self.interrupted([job("stubborn", "a")], signal.SIGINT, signal.SIGINT)
        assert self.events() == ["begin a", "asked a", "asked a", "end a"]

    def test_stopping_is_no_failure(
        self, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def stopped(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(study, "run_all", stopped)
        assert compare.main([*SMALL, "--to", str(tmp_path)]) == 130
        said = " ".join(capsys.readouterr().out.split())
        assert said.endswith(f"Stopped; nothing in {tmp_path} is lost, and the same command goes on from there.")
