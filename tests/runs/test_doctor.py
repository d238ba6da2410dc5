"""`expo-lite doctor RUN`: on real runs of the tiny world, and as it is typed."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support.run_folders import LEARNED, STUCK, explanation, write_run
from test_diagnosis import CASES, GOOD

from expo_lite.commands import main as cli
from expo_lite.commands.doctor import main
from expo_lite.config.read import read_config, read_request
from expo_lite.problems import tiny_world
from expo_lite.runs.diagnosis import Finding
from expo_lite.runs.diagnosis.advice import diagnose
from expo_lite.runs.folder import RunDir
from expo_lite.runs.session import train

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

SMALL = [
    *("--preset", "tiny", "--steps", "3", "--evaluation.samples", "2", "--rollout.group-size", "4"),
    *("--data.validation-problems", "2", "--data.test-problems", "2"),
]
HARD = ["--data.levels", "4=1,5=1", "--rollout.prompts-per-step", "6"]
ROOT = Path(__file__).parents[2]


def trained(folder: Path, *flags: str) -> RunDir:
    """A real run with the shipped base."""
    assert train(read_request([*SMALL, *flags, "--run", str(folder)]), Console(file=io.StringIO())) == 0
    return RunDir(folder)


def findings(run: RunDir) -> list[Finding]:
    return diagnose(run, read_config(run.config))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return trained(tmp_path_factory.mktemp("runs") / "healthy", *HARD)


def test_a_healthy_run_gives_a_calm_answer(healthy: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert {finding.severity for finding in findings(healthy)} == {"good"}
    assert main([str(healthy.path)]) == 0
    first, answer = capsys.readouterr().out.splitlines()
    assert first == f"{healthy.path}: finished, step 3 of 3."
    assert answer.startswith("Nothing is wrong. 3 of 3 steps made an update. ")
    assert "an explanation was learned from instead" in answer


def test_grpo_on_hard_problems_has_dead_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "grpo", *HARD, "--explanation.source", "none")
    (finding,) = findings(run)
    assert (finding.name, finding.severity, finding.setting) == ("no_signal", "serious", "--explanation.source self")
    assert main([str(run.path)]) == 0
    assert "    change: --explanation.source self\n" in capsys.readouterr().out


@pytest.mark.slow
def test_wrong_golds_are_named(tmp_path: Path) -> None:
    """On levels where the base does not talk itself into what it is told."""
    problems = [p for level in (2, 3, 4) for p in tiny_world.problems("train", level, 8)]
    wrong = {p.question for p in problems[::4]}
    rows = [
        {"question": p.question, "answer": str(int(p.answer) + 10 * (p.question in wrong)), "level": p.level}
        for p in problems
    ]
    data = tmp_path / "problems.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    visits = ["--steps", "4", "--rollout.prompts-per-step", "18", "--data.levels", "2=1,3=1,4=1"]
    held_out = ["--data.validation-problems", "1", "--data.test-problems", "1"]
    run = trained(tmp_path / "run", "--data.source", str(data), *visits, *held_out)
    (found,) = (finding for finding in findings(run) if finding.name == "wrong_answers")
    explained = {s["question"] for s in run.read("samples.jsonl") if s["kind"] == "explanation"}
    flagged = {case["question"] for case in found.cases}
    assert flagged <= wrong
    assert len(flagged) >= 0.6 * len(wrong & explained) > 0
    true = {p.question: p.answer for p in problems}
    assert all(case["other"] == true[case["question"]] for case in found.cases)
    line = {row["question"]: number for number, row in enumerate(rows, 1)}
    assert all(case["row"] == f"{data}:{line[case['question']]}" for case in found.cases)


@pytest.mark.slow
def test_right_golds_of_hard_problems_are_not_accused(tmp_path: Path) -> None:
    """Sums with one-digit numbers, which the base was never shown: some known answers wrong among easy and hard."""
    draw, rows, wrong, hard = random.Random(6), list[dict[str, object]](), set[str](), set[str]()
    for number in range(120):
        operands = [draw.randint(10, 99) for _ in range(3 + number % 3)]
        if number % 4 == 0:
            operands[draw.randrange(len(operands))] = draw.randint(1, 9)
        question = f"What is {'+'.join(map(str, operands))}?"
        if number % 4 == 0:
            hard.add(question)
        if number % 7 == 0:
            wrong.add(question)
        rows.append({"question": question, "answer": str(sum(operands) + 10 * (question in wrong))})
    data = tmp_path / "problems.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    visits = ["--steps", "24", "--rollout.prompts-per-step", "15", "--data.levels", "1=1"]
    held_out = ["--data.validation-problems", "1", "--data.test-problems", "1"]
    run = trained(tmp_path / "run", "--data.source", str(data), *visits, *held_out)
    found = {finding.name: {case.get("question") for case in finding.cases} for finding in findings(run)}
    explained = {s["question"] for s in run.read("samples.jsonl") if s["kind"] == "explanation"}
    accused, unsettled = found["wrong_answers"], found["disagreements"]
    assert len(accused & wrong) >= 0.9 * len(accused)
    assert len(accused & wrong) >= 0.6 * len((wrong - hard) & explained) > 0
    assert len(unsettled & hard) >= 0.9 * len(unsettled) > 0


def test_every_metric_and_finding_is_in_the_page(healthy: RunDir) -> None:
    page = (ROOT / "docs" / "reading-a-run.md").read_text()
    metrics = {name for step in healthy.read("metrics.jsonl") for name in step} - {"step"}
    assert [name for name in sorted(metrics) if f"`{name}`" not in page] == []
    assert [name for name in sorted({case[0] for case in CASES + GOOD}) if f"`{name}`" not in page] == []


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, [STUCK], status={"state": "stopped", "step": 1}, explanation__source="none")
    assert main([str(run.path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: shown[name] for name in ("run", "state", "step", "steps")} == {
        "run": str(tmp_path), "state": "stopped", "step": 1, "steps": 100,
    }  # fmt: skip
    (finding,) = shown["findings"]
    assert finding["name"] == "no_signal" and finding["setting"] == "--explanation.source self"
    assert set(finding) == {"name", "severity", "sentence", "setting", "cases"}


def test_an_empty_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path)
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "not begun, step 0 of 100" in shown and "No step is recorded yet" in shown
    assert "Nothing is wrong" not in shown


def test_a_note_alarms_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, [{**LEARNED, "out_of_memory_halvings": 1}])
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "Nothing is wrong. 1 of 1 steps made an update." in shown and "By the way:\n* Memory ran out" in shown


def test_what_the_model_wrote_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"explanations_written": 2, "explanations_accepted": 0, "explanations_rejected_unverified": 2}
    text = "one\n\x1b[2Jtwo \ud800"
    sample = explanation(text, rejected="unverified", trained=False, problem="a\x1b[31m")
    write_run(tmp_path, [{**LEARNED, **counts}], samples=[sample])
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "    | one\n    | \N{REPLACEMENT CHARACTER}[2Jtwo \N{REPLACEMENT CHARACTER}\n" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("name", ["nowhere", "folder", "file"])
def test_what_is_no_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert main([str(tmp_path / name)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err
    assert shown.err.startswith(f"{tmp_path / name} holds no run (no config.yaml); name a run's folder")


def test_damaged_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, [LEARNED])
    for name, text in (("metrics.jsonl", "{\n{}\n"), ("status.json", "{"), ("config.yaml", "novel: 1\n")):
        whole = (tmp_path / name).read_text() if (tmp_path / name).exists() else "{}"
        (tmp_path / name).write_text(text)
        assert main([str(tmp_path)]) == 2, name
        assert name in capsys.readouterr().err
        (tmp_path / name).write_text(whole)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "the following arguments are required: RUN\n"
    assert "doctor" in cli.COMMANDS


def test_it_answers_without_torch(tmp_path: Path) -> None:
    write_run(tmp_path, [LEARNED])
    code = (
        "import sys; from expo_lite.commands.main import main; status = main(sys.argv[1:]); "
        "loaded = {'torch', 'transformers', 'numpy'} & set(sys.modules); sys.exit(str(loaded) if loaded else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing is wrong." in done.stdout
