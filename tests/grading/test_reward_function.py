"""Reward functions: called as TRL calls them, and what they decide in a step and in a run."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import CUT, ScriptedSampler, tiny_config, tiny_policy, tiny_trainer, written
from trl import GRPOTrainer

from expo_lite.commands import evaluate, train
from expo_lite.config.settings import Config, DataConfig, RewardConfig
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.core.records import Problem, Turn, Verdict
from expo_lite.grading.evaluator import Evaluator
from expo_lite.grading.judge import SharedJudge, attempt_verdicts
from expo_lite.grading.reward_function import RewardFunction, function_name, load_function
from expo_lite.model.policy import Policy
from expo_lite.model.prompts import Prompts
from expo_lite.model.ranks import Ranks
from expo_lite.problems import load_problems
from expo_lite.runs.folder import METRICS, SAMPLES, RunDir

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ROWS = [
    {"question": "What is 1+2?", "answer": "3", "level": 1, "colour": "red", "completion": "not handed over"},
    {"question": "What is 5+4?", "answer": "9", "level": 2, "colour": "blue", "completion": "neither"},
]
PROBLEMS = [Problem(str(n), row["question"], row["answer"], row["level"], None, row) for n, row in enumerate(ROWS)]
TURNS = (Turn("user", "Add."), Turn("assistant", "I add."))
TEXTS = [["2. ", "3"], ["9", "1"]]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def judge(policy: Policy, function: Any, **settings: Any) -> RewardFunction:
    return RewardFunction(function, RewardConfig(**settings), Prompts(policy.tokenizer, tiny_config().prompt))


def completions(policy: Policy, texts: list[list[str]] = TEXTS) -> list[list[Any]]:
    return [[written(policy.tokenizer, [1], text) for text in of_problem] for of_problem in texts]


class Recorder:
    """Keeps what it is called with."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def __call__(self, **given: Any) -> list[float]:
        self.given = given
        return [0.0] * len(given["completions"])

    __name__ = "recorder"


class TestAsTRLCallsIt:
    """Against TRL's own code, for the same rows: what it hands over is handed over, with the same values."""

    @pytest.mark.parametrize(
        ("messages", "turns"), [(False, ()), (True, ()), (True, TURNS)], ids=["text", "messages", "several turns"]
    )
    def test_the_same_arguments(self, policy: Policy, messages: bool, turns: tuple[Turn, ...]) -> None:
        ours, theirs = Recorder(), Recorder()
        written = completions(policy)
        asked = [replace(problem, turns=turns) for problem in PROBLEMS]
        judge(policy, ours, messages=messages).judge_completions(asked, written)

        def said(role: str, text: str, *before: Turn) -> Any:
            return [turn._asdict() for turn in (*before, Turn(role, text))] if messages else text

        repeated = [row for row in ROWS for _ in range(2)]
        inputs = [{"prompt": said("user", row["question"], *turns), **row} for row in repeated]
        flat = [completion for of_problem in written for completion in of_problem]
        stand_in = SimpleNamespace(
            accelerator=SimpleNamespace(device="cpu", is_main_process=True),
            reward_funcs=[theirs],
            reward_processing_classes=[None],
            reward_func_names=["theirs"],
            environments=None,
            state=SimpleNamespace(global_step=0),
            _log_completion_extra=None,
            _log_metric=None,
            args=SimpleNamespace(report_to=[]),
        )
        found = GRPOTrainer._calculate_rewards(
            stand_in,  # type: ignore[arg-type]
            inputs,
            [row["prompt"] for row in inputs],
            [said("assistant", completion.text) for completion in flat],
            [completion.completion_ids for completion in flat],
        )
        assert found.tolist() == torch.zeros(4, 1).tolist()
        not_ours = {"trainer_state", "log_extra", "log_metric"}
        ours.given.pop("solution")  # what we hand over besides
        assert ours.given == {name: value for name, value in theirs.given.items() if name not in not_ours}


class TestJudging:
    def test_right_is_what_earns_enough(self, policy: Policy) -> None:
        def half(completions: list[str], **columns: Any) -> list[float]:
            return [0.5 if "3" in text else 0.4 for text in completions]

        found = judge(policy, half, solved=0.5).judge_completions(PROBLEMS, completions(policy))
        assert [[(j.verdict.value, j.reward) for j in of] for of in found] == [
            [("wrong", 0.4), ("correct", 0.5)],
            [("wrong", 0.4), ("wrong", 0.4)],
        ]

    def test_what_was_cut_off_keeps_its_reward_and_is_not_right(self, policy: Policy) -> None:
        cut = completions(policy, [["3" + CUT]])
        own = judge(policy, lambda completions, **_: [1.0 for _ in completions])
        assert own.judge_completions(PROBLEMS[:1], cut)[0][0].reward == 1.0
        assert attempt_verdicts(own, PROBLEMS[:1], cut) == [[Verdict.WRONG]]

    def test_a_problem_without_columns(self, policy: Policy) -> None:
        """As the tiny world's, or one that is typed in the app."""
        seen = Recorder()
        judge(policy, seen).judge_completions([Problem("a", "q?", "7", 3)], completions(policy, [["7"]]))
        assert (seen.given["question"], seen.given["answer"], seen.given["level"]) == (["q?"], ["7"], [3])

    def test_numbers_of_other_libraries(self, policy: Policy) -> None:
        own = judge(policy, lambda completions, **_: [torch.tensor(0.25), True, np.float32(0), torch.tensor([2.0])])
        found = own.judge_completions(PROBLEMS, completions(policy))
        assert [[j.reward for j in of] for of in found] == [[0.25, 1.0], [0.0, 2.0]]

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda **_: [1.0], r"one number per completion, 4 \(got 1\)"),
            (lambda **_: 1.0, r"a list of numbers \(got float\)"),
            (lambda **_: [None, 1, 1, 1], r"finite numbers, 0.0 where nothing is earned \(got None\)"),
            (lambda **_: [float("nan"), 1, 1, 1], r"finite numbers.*\(got nan\)"),
            (lambda **_: ["1", 1, 1, 1], r"finite numbers.*\(got 1\)"),
            (
                lambda completions: [1.0] * 4,
                r"called with question, .*; let its arguments end with \*\*columns",
            ),
            (
                lambda trainer_state, **_: [1.0] * 4,
                r"cannot be called with .*: 'trainer_state'",
            ),
            (lambda **_: json.loads("{"), r"raised JSONDecodeError: .*\(test_reward_function.py, line \d+\)"),
            (lambda **given: given["words"], r"raised KeyError: 'words' \(test_reward_function.py, line \d+\)"),
        ],
    )
    def test_mistakes(self, policy: Policy, function: Any, message: str) -> None:
        with pytest.raises(DataError, match=f"^reward.function: .*{message}"):
            judge(policy, function).judge_completions(PROBLEMS, completions(policy))

    def test_a_function_for_messages_that_is_handed_text(self, policy: Policy) -> None:
        def conversational(completions: Any, **_: Any) -> list[float]:
            return [float("3" in completion[0]["content"]) for completion in completions]

        with pytest.raises(DataError, match=r"raised TypeError: .*, line \d+\); .* wants reward\.messages true$"):
            judge(policy, conversational).judge_completions(PROBLEMS, completions(policy))
        found = judge(policy, conversational, messages=True).judge_completions(PROBLEMS, completions(policy))
        assert [[j.reward for j in of] for of in found] == [[0, 1], [0, 0]]

    def test_of_chats_as_text_the_last_turn(self, policy: Policy) -> None:
        seen = Recorder()
        judge(policy, seen).judge_completions([replace(PROBLEMS[0], turns=TURNS)], completions(policy)[:1])
        assert seen.given["prompts"] == ["What is 1+2?"] * 2

    def test_async(self, policy: Policy) -> None:
        async def later(**_: Any) -> list[float]:
            return [1.0] * 4

        with pytest.raises(DataError, match="is async"):
            judge(policy, later).judge_completions(PROBLEMS, completions(policy))

    def test_shared_by_ranks(self, policy: Policy) -> None:
        """Two ranks judge a problem each, and hold both verdicts in the end."""

        class Second(Ranks):
            def gathered(self, value: Any) -> list[Any]:
                return [["what the first rank found"], value]

        seen = Recorder()
        shared = SharedJudge(judge(policy, seen), Second(1, 2))
        first, second = shared.judge_completions(PROBLEMS, completions(policy))
        assert first == "what the first rank found" and len(second) == 2 and seen.given["colour"] == ["blue"] * 2


class TestStep:
    def test_a_failed_group_with_shaped_rewards_is_trained_on_and_explained(self, policy: Policy) -> None:
        """0.2 and 0.8 are both below `solved`: the second attempt is reinforced, and the answer is explained."""
        problem = Problem("p", "What is 10+20?", "30")
        script = {("rollout", "p"): ["1", "2."], ("explanation", "p"): ["no", "10+20=30\nThe answer is $\\boxed{30}$."]}

        def shaped(completions: list[str], **columns: Any) -> list[float]:
            return [{"1": 0.2, "2.": 0.8}.get(text, float("30" in text)) for text in completions]

        config = tiny_config(explanation__samples=2)
        trainer = tiny_trainer(config, policy, ScriptedSampler(policy, script), judge=judge(policy, shaped))
        report = trainer.step(1, [problem])
        (group,) = report.groups
        assert (group.kind, [r.reward for r in group.rollouts]) == ("failed", [0.2, 0.8])
        assert group.advantages[0] < 0 < group.advantages[1]
        assert [e.rejected for e in report.explanations[0]] == ["unverified", None]
        assert report.metrics["reward_mean"] == pytest.approx(0.5)
        assert (report.metrics["groups_with_signal"], report.metrics["rescued_groups"]) == (1, 1)
        assert report.metrics["explanations_trained"] == 1


class TestColumns:
    def rows(self, folder: Path, count: int = 40) -> str:
        path = folder / "rows.jsonl"
        rows = [
            {"question": f"q{n}?", "answer": f" ####{n} ", "solution": f"so {n}", "word": f"w{n}"} for n in range(count)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    def test_as_they_stand(self, tmp_path: Path) -> None:
        (problem, *_) = load_problems(DataConfig(source=self.rows(tmp_path), answers="text")).train
        number = problem.question[1:-1]
        assert (problem.answer, problem.solution) == (f"####{number}", f"so {number}")
        assert problem.columns["word"] == f"w{number}" and problem.columns["answer"] == f" ####{number} "

    def test_of_mathematics_none_are_kept(self, tmp_path: Path) -> None:
        (problem, *_) = load_problems(DataConfig(source=self.rows(tmp_path))).train
        assert problem.answer == problem.question[1:-1] and problem.columns == {}

    def test_a_resumed_run_notices_other_columns(self, tmp_path: Path) -> None:
        config = DataConfig(source=self.rows(tmp_path), answers="text")
        before = load_problems(config).digest()
        Path(config.source).write_text(Path(config.source).read_text().replace('"w', '"v'))
        assert load_problems(config).digest() != before


class TestLoading:
    def test_by_file_and_by_module(self) -> None:
        found = load_function(f"{EXAMPLES}/letters.py:reward")
        assert found is not None and found(completions=["<answer>ab</answer>"], answer=["ab"]) == [1.0]
        assert load_function("json:dumps") is json.dumps and load_function(None) is None

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("letters.py", r"should be FILE.py:NAME or package.module:NAME \(got letters.py\)"),
            ("gone.py:reward", "there is no file gone.py"),
            ("json:nothing", "json has no function nothing"),
            ("no.such.module:f", "no.such.module cannot be imported .ModuleNotFoundError"),
            ("__main__:mine", "put it into a file"),
            ("broken.py:f", r"broken.py cannot be imported \(ZeroDivisionError: .*\(broken.py, line 2\)\)$"),
            ("torn.py:f", r"torn.py cannot be imported \(SyntaxError: .*\(torn.py, line 1\)\)$"),
        ],
    )
    def test_mistakes(self, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("broken.py").write_text("f = print\n1 / 0\n")
        Path("torn.py").write_text("f = (\n")
        with pytest.raises(ConfigError, match=f"^reward.function: .*{message}"):
            load_function(name)

    def test_before_a_folder_is_made(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run = tmp_path / "run"
        assert train.main(["--preset", "tiny", "--reward.function", "gone.py:f", "--run", str(run)]) == 2
        assert "reward.function: there is no file gone.py" in capsys.readouterr().err and not run.exists()

    def test_names(self) -> None:
        assert function_name(json.dumps) == "json:dumps"
        assert function_name(Recorder()) == "__main__:Recorder" and "__main__:" in function_name(lambda **_: [])


def test_the_stricter_judge() -> None:
    """docs/examples/steps.py: a right answer by a wrong step earns half."""
    reward: Any = load_function(f"{EXAMPLES}/steps.py:reward")
    sound = "12+7=19\n19+5=24\nThe answer is $\\boxed{24}$."
    texts = [sound, sound.replace("12+7=19\n19+5", "12+7=18\n18+6"), sound.replace("24", "25")]
    assert reward(texts, ["What is 12+7+5?"] * 3, ["24"] * 3) == [1.0, 0.5, 0.0]


class TestExample:
    """docs/examples/letters.py, whose problems the shipped model cannot read: what is tested is that all of it runs."""

    def test_reward(self) -> None:
        reward: Any = load_function(f"{EXAMPLES}/letters.py:reward")
        texts = ["<answer>abc</answer>", "<answer>acb</answer>", "abc", "no <answer>x</answer> <answer> ABC </answer>"]
        assert reward(completions=texts, answer=["abc"] * 4, level=[1] * 4) == [1.0, pytest.approx(1 / 3), 0.0, 1.0]
        assert reward(completions=["<answer>abcd</answer>"], answer=["abc"]) == [0.75]

    def test_from_problems_to_scores(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copytree(EXAMPLES, "docs/examples")
        monkeypatch.setattr(sys, "argv", ["letters.py", "letters.jsonl"])
        exec(compile(Path("docs/examples/letters.py").read_text(), "letters.py", "exec"), {"__name__": "__main__"})
        small = ["--data.test-problems", "2", "--data.validation-problems", "2", "--evaluation.every", "1"]
        small += ["--rollout.prompts-per-step", "2", "--rollout.max-prompt-tokens", "64", "--steps", "1"]
        begun = ["--preset", "tiny", "--config", "docs/examples/letters.yaml", "--run", "runs/letters"]
        assert train.main([*begun, *small]) == 0
        assert train.main(["--resume", "--run", "runs/letters", "--steps", "2"]) == 0
        run = RunDir("runs/letters")
        assert [record["reward_mean"] for record in run.read(METRICS)] == [0.0, 0.0]
        rollout = next(record for record in run.read(SAMPLES) if record["kind"] == "rollout")
        assert re.fullmatch("[a-z]{4,8}", rollout["answer"]) and rollout["reward"] == 0.0
        assert evaluate.main(["runs/letters", "--problems", "2", "--k", "1"]) == 0
        assert "pass@1" in capsys.readouterr().out


def test_evaluation_goes_by_the_threshold(policy: Policy) -> None:
    problem = Problem("p", "What is 10+20?", "30")
    sampler: Any = ScriptedSampler(policy, {("evaluation", "p"): ["1", "2", "3"]})
    own = judge(policy, lambda completions, **_: [float(text) for text in completions], solved=2)
    config: Config = tiny_config()
    evaluator = Evaluator(sampler, Prompts(policy.tokenizer, config.prompt), own, 0, 3, 24, 0.7)
    assert evaluator.answer([problem])[0].correct == 2
