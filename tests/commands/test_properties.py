"""The two properties: numbers as by hand, true of the tiny base as the paper has them, and the command around them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.tiny_models import ScriptedSampler, live_units, tiny_config, tiny_policy, written

from expo_lite.commands import properties, train
from expo_lite.config.read import dump_yaml, read_request
from expo_lite.config.settings import Config
from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.grading.judge import Judgement
from expo_lite.model.prompts import Prompts
from expo_lite.problems import tiny_world
from expo_lite.runs.assemble import Assembly, assemble, settle
from expo_lite.studies.properties.readings import (
    ANSWER,
    EXPERT,
    KINDS,
    NLL,
    RIGHT,
    SELF,
    STEPS_RIGHT,
    STEPS_WRONG,
    WRONG,
    MeanReading,
    Reading,
    Text,
    markdown,
    summarise,
    tables,
    unanswered,
)
from expo_lite.studies.properties.text_kinds import expert_solutions, own_attempts, read, read_all_kinds

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

PROBLEM = tiny_world.problem((23, 45, 12))
RIGHT_TEXT, WRONG_TEXT = tiny_world.own_solution((23, 45, 12)), tiny_world.own_solution((23, 45))


def test_an_attempt_that_was_not_judged_in_time_is_neither_right_nor_wrong() -> None:
    policy, config = tiny_policy(), tiny_config(evaluation__samples=3)
    verdicts = [[Judgement(verdict, 0.0) for verdict in (Verdict.CORRECT, Verdict.TIMEOUT, Verdict.WRONG)]]
    parts: Any = SimpleNamespace(
        prompts=Prompts(policy.tokenizer, config.prompt),
        sampler=ScriptedSampler(policy, {("properties", PROBLEM.id): [RIGHT_TEXT] * 3}),
        judge=SimpleNamespace(judge_completions=lambda *_: verdicts),
    )
    assert [text.kind for text in own_attempts(parts, config, [PROBLEM])] == [RIGHT, WRONG]


class TestByHand:
    """Against a plain forward of transformers, on a model whose adapter matters."""

    policy = tiny_policy()
    config = tiny_config()
    prompts = Prompts(policy.tokenizer, config.prompt)

    def parts(self) -> Any:
        sampler = SimpleNamespace(units=live_units(tokens=40))
        return SimpleNamespace(policy=self.policy, prompts=self.prompts, sampler=sampler)

    def logprobs(self, prompt: list[int], ids: list[int]) -> list[float]:
        logits = self.policy.causal_lm(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        return torch.log_softmax(logits.double(), 1)[range(len(ids)), ids].tolist()

    def test_negative_log_likelihood_and_the_answers_log_probability(self) -> None:
        task, encode = self.prompts.task(PROBLEM), self.policy.tokenizer
        cut = WRONG_TEXT + "1+1=2\n"
        texts = [
            Text(kind, PROBLEM, written(encode, [1, 2], text), right)  # were written under another prompt
            for kind, text, right in [
                (WRONG, WRONG_TEXT, False),
                (SELF, RIGHT_TEXT, True),
                (WRONG, cut, False),
                (WRONG, "1+1=2\n", False),
            ]
        ]
        found = read(texts, self.parts())
        for text, reading in zip(texts, found, strict=True):
            own = self.logprobs(task, text.completion.completion_ids)
            assert reading.text is text
            assert reading.nll_per_token == pytest.approx(-sum(own) / len(own), rel=1e-4)
        answer = list(encode("80")["input_ids"])
        for reading, text in zip(found[:3], (WRONG_TEXT, RIGHT_TEXT, cut), strict=True):
            thought = text[: text.rindex("boxed{") + len("boxed{")]
            ids = list(encode(thought)["input_ids"])
            assert reading.answer_logprob == pytest.approx(sum(self.logprobs(task + ids, answer)), rel=1e-4)
        assert found[3].answer_logprob is None

    def test_the_adapter_matters(self) -> None:
        text = Text(SELF, PROBLEM, written(self.policy.tokenizer, [1], RIGHT_TEXT), True)
        (trained,) = read([text], self.parts())
        with self.policy.reference():
            (base,) = read([text], self.parts())
        assert abs(trained.nll_per_token - base.nll_per_token) > 0.01


# ------------------------------------------------------------------------------------------------------ rows and grids


def reading(kind: str, level: int, nll: float, name: str = "a", right: bool = True, **more: Any) -> Reading:
    problem = Problem(f"{level}/{name}", "?", "1", level)
    values = {"answer_logprob": -1.0, "steps_right": None} | more
    return Reading(Text(kind, problem, Completion([], [1], [], True, ""), right), nll, **values)


def row(rows: list[MeanReading], measure: str, kind: str, level: int | None) -> MeanReading:
    (found,) = [r for r in rows if (r.measure, r.kind, r.level) == (measure, kind, level)]
    return found


def test_a_problem_counts_once_however_many_texts_it_has() -> None:
    rows = summarise([reading(SELF, 1, 1.0), reading(SELF, 1, 2.0), reading(SELF, 1, 4.5, "b")], "base")
    found = row(rows, NLL, SELF, 1)
    assert (found.mean, found.problems, found.texts) == (3.0, 2, 3)
    assert found.low == 1.5 and found.high == 4.5


def test_a_level_without_a_text_shows_a_dash_and_no_zero() -> None:
    rows = summarise([reading(SELF, 1, 1.0), reading(SELF, 2, 1.0), reading(RIGHT, 1, 0.0)], "base")
    table = tables(rows)[0]
    assert table.heads == ["", "L1", "L2", "all"] and table.title.endswith("(base)")
    shown = {line[0]: line[1:] for line in table.rows}
    assert shown == {SELF: ["1.00 [1.00, 1.00]"] * 3, RIGHT: ["0.00 [0.00, 0.00]", "-", "0.00 [0.00, 0.00]"]}
    assert "| own right attempt | 0.00 [0.00, 0.00] | - |" in markdown(rows, "x", [])


def test_both_sides_show_the_same_kinds() -> None:
    """After training there may be no wrong attempt left."""
    rows = summarise([reading(WRONG, 1, 1.0), reading(SELF, 1, 1.0)], "base")
    rows += summarise([reading(SELF, 1, 1.0)], "trained")
    (trained,) = [table for table in tables(rows) if "Property 1" in table.title and "(trained)" in table.title]
    assert trained.rows[1] == [WRONG, "-", "-"]


def test_texts_without_an_answer_are_left_out_of_property_2_and_counted() -> None:
    readings = [reading(WRONG, 1, 1.0, answer_logprob=None), reading(WRONG, 1, 1.0), reading(SELF, 1, 1.0)]
    assert row(summarise(readings, "base"), ANSWER, WRONG, 1).texts == 1
    assert unanswered(readings) == ["1 of 2 own wrong attempts have no final answer and are not in log pi(a* | q, c)."]


def test_steps_of_explanations() -> None:
    """Only of explanations whose steps can be told; a right answer by a wrong step is neither wrong nor unknown."""
    readings = [
        reading(SELF, 1, 1.0, "a", steps_right=True),
        reading(SELF, 1, 1.0, "b", steps_right=False),
        reading(SELF, 1, 1.0, "c", right=False, steps_right=False),
        reading(SELF, 1, 1.0, "d", steps_right=True),
        reading(SELF, 2, 1.0),
        reading(EXPERT, 1, 1.0, steps_right=True),
    ]
    rows = summarise(readings, "base")
    assert (row(rows, STEPS_RIGHT, SELF, None).mean, row(rows, STEPS_WRONG, SELF, None).mean) == (0.5, 0.25)
    assert {(r.kind, r.level) for r in rows if r.measure in (STEPS_RIGHT, STEPS_WRONG)} == {(SELF, 1), (SELF, None)}


# --------------------------------------------------------------------------------------------------- on the tiny base


@pytest.fixture(scope="module")
def config() -> Config:
    return read_request(["--preset", "tiny", "--data.test-problems", "8"]).config


@pytest.fixture(scope="module")
def parts(config: Config) -> Iterator[Assembly]:
    with assemble(settle(config)) as made:
        yield made


@pytest.fixture(scope="module")
def rows(parts: Assembly, config: Config) -> list[MeanReading]:
    return summarise(read_all_kinds(parts, config, trained=False)[0], "base")


@pytest.mark.parametrize("level", [4, 5])
class TestThePaper:
    def test_property_1_self_explanations_are_likelier_than_expert_solutions(
        self, rows: list[MeanReading], level: int
    ) -> None:
        assert row(rows, NLL, SELF, level).high < row(rows, NLL, EXPERT, level).low

    def test_property_2_after_them_the_answer_is_likelier_than_after_wrong_attempts(
        self, rows: list[MeanReading], level: int
    ) -> None:
        assert row(rows, ANSWER, SELF, level).low > row(rows, ANSWER, WRONG, level).high

    def test_steps(self, rows: list[MeanReading], level: int) -> None:
        right, wrong = row(rows, STEPS_RIGHT, SELF, level), row(rows, STEPS_WRONG, SELF, level)
        assert right.mean > 0.9 and wrong.mean == pytest.approx(1 - right.mean)


def test_the_base_has_no_right_attempt_on_hard_levels(rows: list[MeanReading]) -> None:
    assert {r.level for r in rows if r.kind == RIGHT} == {1, 2, 3, None}
    assert {r.level for r in rows if r.kind == WRONG} >= {4, 5}


def test_without_solutions_that_kind_is_left_out_and_said(parts: Assembly, config: Config) -> None:
    bare = [replace(problem, solution=None) for problem in parts.problems.test]
    assert expert_solutions(parts, config, bare) == (
        [],
        ["Expert solutions are left out: the data has none for these problems."],
    )


def test_long_solutions_are_left_out_and_counted(parts: Assembly, config: Config) -> None:
    problems = [PROBLEM, replace(PROBLEM, solution="1" * 64), replace(PROBLEM, solution=None)]
    texts, notes = expert_solutions(parts, config, problems)
    assert [text.completion.text for text in texts] == [PROBLEM.solution]
    assert notes == ["1 expert solutions of more than 64 tokens are left out."]


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    small = ["--data.test-problems", "2", "--data.validation-problems", "2", "--rollout.prompts-per-step", "8"]
    assert train.main(["--preset", "tiny", "--steps", "2", "--run", str(folder), *small]) == 0
    return folder


@pytest.mark.slow
def test_a_run_before_and_after_from_one_set_of_weights(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert properties.main([str(run), "--problems", "3"]) == 0
    assert properties.main(["--preset", "tiny", "--problems", "3", "--to", str(tmp_path / "a" / "b")]) == 0
    shown = capsys.readouterr().out
    of_run = json.loads((run / "properties" / "properties.json").read_text())
    of_base = json.loads((tmp_path / "a" / "b" / "properties.json").read_text())
    sides = {side: [r for r in of_run["rows"] if r["side"] == side] for side in ("base", "trained")}
    assert sides["base"] == of_base["rows"]  # the adapter is off
    assert [r | {"side": "base"} for r in sides["trained"]] != sides["base"]
    assert {r["kind"] for r in of_base["rows"]} == set(KINDS)
    assert {r["problems"] for r in of_base["rows"] if r["kind"] == EXPERT and r["level"]} == {3}
    assert "self-explanations pass training's filters" in shown and "Property 2" in shown
    for folder in (run / "properties", tmp_path / "a" / "b"):
        assert (folder / "properties.png").read_bytes().startswith(b"\x89PNG")
        assert "## Property 1" in (folder / "properties.md").read_text()


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert properties.main(list(argv)) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    return shown.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "RUN: name a run's folder (runs/NAME), or a preset (--preset tiny)"),
        (["nowhere"], "RUN: there is no run in nowhere; "),
        (["nowhere", "--seed", "3"], "RUN: nowhere is measured with its own settings; leave out --seed 3"),
        (["--seed", "3"], "preset: name one; "),
        (["--preset", "tinny"], "preset: there is no preset 'tinny' (did you mean tiny?"),
        (["--preset", "tiny", "--problems", "0"], "--problems: should be at least 1 (got 0)"),
        (["--preset", "tiny", "--problems", "many"], "--problems: invalid int value: 'many'"),
        (["--preset", "tiny", "--steps", "0"], "steps: should be greater than 0"),
    ],
)
def test_refused_in_one_sentence(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, *argv).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml(Config()))
    assert "has no adapter yet" in refused(capsys, str(tmp_path))


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert refused(capsys, "--preset", "tiny", "--to", str(tmp_path / "file" / "in")).startswith("--to: ")


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; from expo_lite.commands import properties\n"
        "try: properties.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--problems N" in done.stdout
