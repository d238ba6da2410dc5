"""The Compare tab without a browser: what is shown, what is refused, how runs are found, and the worker."""

from __future__ import annotations

import html
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expo_lite.app import worker as worker_module
from expo_lite.app.compare.board import Board, Draft, band, board_html, is_empty, likelihood_html
from expo_lite.app.compare.job import CompareQuestion, answer_for, as_json, boards, checked, known_answer, pick, summary
from expo_lite.app.limits import checked_answer, checked_question, checked_seed
from expo_lite.app.opening import Opening, read_options
from expo_lite.app.run_list import find_run, list_runs
from expo_lite.app.text import DISPLAY, INLINE, harmless, unmarked, with_math
from expo_lite.app.worker import Done, Failed, ModelWorker, Stopped, Ticket, Waiting
from expo_lite.commands import app
from expo_lite.commands import main as cli
from expo_lite.config.presets import preset_path
from expo_lite.config.read import dump_yaml, read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, DataError, ExpoLiteError
from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.problems import tiny_world
from expo_lite.runs.folder import RunDir
from expo_lite.studies.comparison import AFTER, BASE, BEFORE, EXPLANATION, TRAINED, Attempt, Comparison, Likelihoods

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> ![](http://evil.example/a.png) {{7*7}} ${alert(1)} `x`"
)
OUR_ELEMENTS = "div|span|h3|h4|p|ul|li|strong|em|details|summary|table|thead|tbody|tr|th|td"
TINY = read_config(preset_path("tiny"))


def attempt(text: str, answer: str | None, verdict: Verdict | None, finished: bool = True) -> Attempt:
    return Attempt(Completion([1], [5, 6, 2], [], finished, text), answer, verdict, 0.42)


def comparison(after: bool = True, rejected: str | None = None, by: str = BASE) -> Comparison:
    attempts = {
        BEFORE: attempt("1+1=3", "3", Verdict.WRONG),
        EXPLANATION: attempt("1+1=2", "2", Verdict.CORRECT),
    }
    if after:
        attempts[AFTER] = attempt("so $2$", "2", Verdict.CORRECT)
    likelihoods = Likelihoods(["1", "\n2", ""], [-0.1, -6.0, 0.0], [-0.1, -0.2, 0.0] if after else None)
    return Comparison(Problem("a", "1+1?", "2"), attempts, rejected, likelihoods, by)


def cards(shown: str) -> list[str]:
    """The text of each card, as a reader sees it."""
    return [html.unescape(re.sub("<[^>]*>", " ", block)) for block in shown.split("\n\n")]


class TestText:
    def test_nothing_but_letters_and_digits_stays_a_sign(self) -> None:
        assert set(re.sub(r"&#\d+;", "", harmless(HOSTILE + '"\n\0'))) <= set(" abcdefghijklmnopqrstuvwxyz0123456789")
        assert html.unescape(harmless(HOSTILE)) == HOSTILE

    @pytest.mark.parametrize(
        ("text", "formulas"),
        [
            (r"so $\boxed{12}$.", [r"\boxed{12}"]),
            (r"so \boxed{\frac{1}{2}}, or $5", [r"\boxed{\frac{1}{2}}"]),
            (r"\boxed{\frac{\sqrt{3}}{2}}", [r"\boxed{\frac{\sqrt{3}}{2}}"]),
            (r"$x = \boxed{12}$ and \boxed{3", [r"x = \boxed{12}"]),
            (r"\boxed{50%}, \boxed{\$5} and \boxed{$5}", [r"\boxed{\$5}"]),
            ("costs $5 and $6", []),
            ("costs $5, not $6.", []),
            (r"\(a<b\) and \[c\] and $$d$$", ["a<b", "c", "d"]),
            ("$x$ and $y$", ["x", "y"]),
            ("open $x", []),
            ("$a\nb$", []),
        ],
    )
    def test_mathematics_is_found(self, text: str, formulas: list[str]) -> None:
        signs = "".join([*INLINE, *DISPLAY])
        found = re.findall(f"[{signs}]([^{signs}]*)[{signs}]", with_math(text))
        assert [html.unescape(formula) for formula in found] == formulas

    def test_a_text_cannot_write_the_delimiters(self) -> None:
        assert with_math(f"{INLINE[0]}x{INLINE[1]}") == "x"

    def test_hostile_mathematics_stays_harmless(self) -> None:
        assert "<" not in with_math(r"$<img src=x>$ $\href{javascript:alert(1)}{x}$")

    @pytest.mark.parametrize(
        ("text", "plain"),
        [
            (r"so $\boxed{12}$.", "so 12."),
            (r"\(x\) is \boxed{\frac{1}{2}}", r"x is \frac{1}{2}"),
            ("costs $5 and $6", "costs $5 and $6"),
            (r"cut $\boxed{1", r"cut $\boxed{1"),
        ],
    )
    def test_in_a_list_mathematics_has_no_marks(self, text: str, plain: str) -> None:
        assert unmarked(text) == plain


class TestLimits:
    @pytest.mark.parametrize("question", ["", "  \n ", "x" * 4001, "x" * 1_000_000, 7, ["x"]])
    def test_questions_refused(self, question: object) -> None:
        with pytest.raises(DataError, match=r"\.$"):
            checked_question(question)

    @pytest.mark.parametrize("seed", [-1, 1.5, "x", "1e3", 2**40, None, float("nan"), "9" * 1_000_000])
    def test_seeds_refused(self, seed: object) -> None:
        with pytest.raises(DataError, match="whole number"):
            checked_seed(seed)

    def test_what_is_taken(self) -> None:
        assert checked_question(" x" * 2000) == ("x " * 2000).strip()
        assert checked_answer(None) == ""
        assert (checked_seed(3), checked_seed(3.0), checked_seed("3")) == (3, 3, 3)

    def test_long_answers_refused(self) -> None:
        with pytest.raises(DataError, match="1,000 characters"):
            checked_answer("9" * 1000)


class TestBoard:
    def test_a_finished_comparison_in_words(self) -> None:
        before, explanation, after = cards(board_html(Board(comparison=comparison())))
        assert "✗ wrong" in before and "✓ right" in explanation and "✓ right" in after
        assert "3 tokens · 0.4 s" in before
        assert "Accepted for training" in explanation

    @pytest.mark.parametrize(("filter_name", "words"), [("leak", "betrays"), ("unverified", "does not arrive")])
    def test_why_training_would_turn_an_explanation_down(self, filter_name: str, words: str) -> None:
        assert words in cards(board_html(Board(comparison=comparison(rejected=filter_name))))[1]

    def test_not_judged_in_time_is_not_wrong(self) -> None:
        late = Comparison(Problem("a", "?", "2"), {BEFORE: attempt("9^9", "9^9", Verdict.TIMEOUT)})
        shown = cards(board_html(Board(comparison=late)))[0]
        assert "not judged in time" in shown and "✗" not in shown
        assert "could not be judged in time" in summary(late)
        assert as_json(late)["before"]["correct"] is None

    def test_cut_off_and_unjudged(self) -> None:
        cut = Comparison(Problem("a", "?", "2"), {BEFORE: attempt("1+", None, Verdict.NO_ANSWER, finished=False)})
        assert "no answer" in cards(board_html(Board(comparison=cut)))[0]
        assert "✗ cut off" in cards(board_html(Board(comparison=cut)))[0]
        unknown = Comparison(Problem("a", "?", ""), {BEFORE: attempt("so 2", "2", None)})
        shown = cards(board_html(Board(comparison=unknown, explains=False)))
        assert "not judged" in shown[0] and "✗" not in shown[0]
        assert "Without a known answer" in shown[1]

    def test_untrained_it_says_that_after_is_before(self) -> None:
        shown = cards(board_html(Board(comparison=comparison(after=False), trained=False)))
        assert "after is the same as before" in shown[2]

    def test_who_writes_stands_in_every_column(self) -> None:
        def heads(board: Board) -> list[str]:
            return [" ".join(card.split("Sees")[0].split()) for card in cards(board_html(board))]

        assert heads(Board()) == [
            "1 Before training The base, adapter off",
            "2 Self-explanation Explained by the base, adapter off",
            "3 After training The trained model, adapter on",
        ]
        shown = heads(Board(comparison=comparison(), model="mine · ExPO", explained_by=TRAINED))
        assert shown[1:] == [
            "2 Self-explanation Explained by the trained model, adapter on",
            "3 After training mine · ExPO , adapter on",
        ]
        assert "Explained by the base" in heads(Board(trained=False, explained_by=TRAINED))[1]
        assert is_empty(board_html(Board(explained_by=TRAINED)))

    def test_drafts_while_writing_and_after_a_stop(self) -> None:
        drafts = {BEFORE: Draft("1+1=", 4, 0.21)}
        assert "4 tokens · 0.2 s" in cards(board_html(Board(drafts, running=True)))[0]
        assert "4 tokens · 0.2 s · stopped" in cards(board_html(Board(drafts)))[0]

    def test_models_cannot_write_html(self) -> None:
        hostile = {role: attempt(HOSTILE, HOSTILE, Verdict.WRONG) for role in (BEFORE, EXPLANATION, AFTER)}
        told = Likelihoods([HOSTILE], [-1.0], [-1.0])
        shown = Comparison(Problem("a", HOSTILE, HOSTILE), hostile, None, told)
        for page in (
            board_html(Board(comparison=shown)),
            likelihood_html(shown),
            board_html(Board({BEFORE: Draft(HOSTILE)})),
        ):
            assert not re.search(rf"<(?!/?({OUR_ELEMENTS})\b)", page)
            assert not re.search(r"on\w+=|javascript:|\{\{|\$\{|!\[", page)

    def test_cards_are_blocks_without_blank_lines(self) -> None:
        """A blank line would end the HTML block in Markdown, and what follows would be read as Markdown."""
        shown = Comparison(Problem("a", "?", "2"), {BEFORE: attempt("1\n\n\n# 2\n\n- 3", "2", Verdict.WRONG)})
        assert len(board_html(Board(comparison=shown)).split("\n\n")) == 3


class TestLikelihoods:
    @pytest.mark.parametrize(
        ("share", "name"), [(1.0, "sure"), (0.5, "sure"), (0.49, "likely"), (0.05, "unlikely"), (0.0, "alien")]
    )
    def test_bands(self, share: float, name: str) -> None:
        assert band(share) == name

    def test_tokens_say_their_numbers_and_the_mean_is_geometric(self) -> None:
        shown = likelihood_html(comparison())
        assert 'class="tok alien" title="0.2 %">&#9166;&#10;2<' in shown
        assert 'class="tok likely"' not in shown.split("Read by the trained model")[1].replace("likely (10", "")
        means = re.findall(r"<strong>([^<]*)</strong> per token", shown)
        assert means == ["13 %", "90 %"]  # exp(-6.1 / 3), exp(-0.3 / 3)

    def test_the_same_numbers_stand_in_a_table(self) -> None:
        rows = re.findall("<tr>(.*?)</tr>", likelihood_html(comparison()))
        cells = [[html.unescape(cell) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]
        assert cells == [
            ["Token", "Base", "Trained"],
            ["1", "90 %", "90 %"],
            ["⏎2", "0.2 %", "82 %"],
            ["∎", "100 %", "100 %"],
        ]

    def test_a_part_of_a_character_and_a_blank_can_be_seen(self) -> None:
        told = Likelihoods(["", " a", "b"], [-0.1] * 3, None)
        shown = likelihood_html(Comparison(Problem("a", "?", "2"), {}, None, told))
        tokens = [html.unescape(token) for token in re.findall('<th scope="row">(.*?)</th>', shown)]
        assert tokens == ["…", "␣a", "b"]

    def test_who_wrote_and_who_reads(self) -> None:
        by_base, by_trained = (likelihood_html(comparison(by=by)) for by in (BASE, TRAINED))
        assert "The base wrote this explanation" in by_base and "its own words" not in by_base
        assert "The trained model wrote this explanation" in by_trained and "reads its own words" in by_trained
        assert re.findall("<h4>(.*?)</h4>", by_base) == ["Read by the base", "Read by the trained model"]

    def test_untrained_there_is_one_reading(self) -> None:
        assert likelihood_html(comparison(after=False)).count('class="reading"') == 1
        assert "Trained</th>" not in likelihood_html(comparison(after=False))
        assert "by the base. A mark" in likelihood_html(comparison(after=False))
        assert likelihood_html(None) == ""


class TestPicking:
    PROBLEMS = {level: tiny_world.problems("test", level, 3) for level in (1, 4)}  # noqa: RUF012

    def test_after_the_last_comes_the_first(self) -> None:
        assert [pick(self.PROBLEMS, 4, n) for n in (0, 3)] == [
            (self.PROBLEMS[4][0].question, self.PROBLEMS[4][0].answer)
        ] * 2

    def test_no_old_answer_judges_a_new_question(self) -> None:
        assert known_answer(self.PROBLEMS, " What is 1+2 + 30? ", of_tiny_world=True) == "33"
        assert known_answer(self.PROBLEMS, "What is 1+2+30?", of_tiny_world=False) == ""
        assert (
            known_answer(self.PROBLEMS, self.PROBLEMS[1][2].question, of_tiny_world=False) == self.PROBLEMS[1][2].answer
        )
        assert known_answer(self.PROBLEMS, "What is love?", of_tiny_world=True) == ""

    @pytest.mark.parametrize(
        ("question", "answered", "expected"),
        [
            ("What is 1+2?", "What is 1+2?", "7"),  # what stands there belongs to it, right or wrong
            ("What is 1+2?", "What is 3+4?", "3"),
            ("What is 1+2? ", "What is 1+2?", "3"),
            ("What is love?", "What is 3+4?", ""),
        ],
    )
    def test_an_answer_judges_only_the_question_it_belongs_to(
        self, question: str, answered: str, expected: str
    ) -> None:
        assert answer_for(self.PROBLEMS, question, "7", answered, of_tiny_world=True) == expected

    @pytest.mark.parametrize(
        ("before", "after", "words"),
        [(False, True, "learned"), (True, True, "forgotten"), (False, False, "too hard"), (True, False, "cost")],
    )
    def test_one_sentence_on_what_it_shows(self, before: bool, after: bool, words: str) -> None:
        verdicts = {BEFORE: before, AFTER: after}
        attempts = {r: attempt("x", "2", Verdict.CORRECT if v else Verdict.WRONG) for r, v in verdicts.items()}
        assert words in summary(Comparison(Problem("a", "?", "2"), attempts))

    def test_what_the_model_does_not_read_is_not_called_too_hard(self) -> None:
        attempts = {BEFORE: attempt("x", "2", Verdict.WRONG), AFTER: attempt("x", "2", Verdict.WRONG)}
        outside = Comparison(Problem("a", "What is 1+1?", "2"), attempts, note="It reads other sums.")
        assert summary(outside) == "Done. It reads other sums."
        attempts[AFTER] = attempt("x", "2", Verdict.CORRECT)
        assert "learned" in summary(outside)  # right all the same
        assert as_json(outside)["note"] == "It reads other sums." and "note" not in as_json(comparison())

    def test_as_json(self) -> None:
        out = as_json(comparison(rejected="leak"))
        assert out["before"] == {"text": "1+1=3", "answer": "3", "correct": False, "tokens": 3, "seconds": 0.42}
        assert out["after"]["correct"] is True
        assert out["explanation"]["rejected"] == "leak" and out["explanation"]["explained_by"] == BASE
        assert out["explanation"]["token_likelihood_before"] == pytest.approx(0.1308, abs=1e-3)


# ------------------------------------------------------------------------------------------------------------ runs


def make_run(
    root: Path, name: str, state: str = "finished", adapter: bool = True, config: Config = TINY, at: float = 1
) -> RunDir:
    with RunDir.create(root / name, dump_yaml(config), clock=lambda: at) as run:
        run.status(step=5, state=state)
        if adapter:
            run.adapter.mkdir()
    return run


class TestRuns:
    def test_newest_first_and_only_runs(self, tmp_path: Path) -> None:
        make_run(tmp_path, "old", at=1)
        make_run(tmp_path, "new", state="running", adapter=False, at=2)
        (tmp_path / "notes").mkdir()
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "config.yaml").write_text("steps: [")
        assert [(r.name, r.state, r.adapter is None) for r in list_runs(tmp_path)] == [
            ("new", "running", True),
            ("old", "finished", False),
        ]
        assert list_runs(tmp_path / "missing") == []

    def test_only_names_directly_below_the_root_are_found(self, tmp_path: Path) -> None:
        make_run(tmp_path / "outside", "secret")
        make_run(tmp_path / "root", "mine")
        assert find_run(tmp_path / "root", "mine").name == "mine"
        secret = str(tmp_path / "outside" / "secret")
        for name in (
            "../outside/secret",
            secret,
            "mine/../../outside/secret",
            "..",
            ".",
            "",
            "mine/",
            "x\0y",
            "x" * 9999,
        ):
            with pytest.raises(DataError, match="There is no run"):
                find_run(tmp_path / "root", name)

    def test_models_to_choose_from(self, tmp_path: Path) -> None:
        make_run(tmp_path, "done", at=1)
        make_run(tmp_path, "going-on", state="running", at=2)
        make_run(tmp_path, "nothing-yet", adapter=False, at=3)
        make_run(
            tmp_path,
            "other-rank",
            config=TINY.model_copy(update={"policy": TINY.policy.model_copy(update={"lora_rank": 4})}),
        )
        make_run(tmp_path, "other-prompt", config=TINY.model_copy(update={"prompt": Config().prompt}))
        opening = Opening(TINY, tmp_path)
        assert list(opening.adapters()) == ["going-on", "done"]
        assert opening.starts_with() == "done"
        assert Opening(TINY, tmp_path / "empty").starts_with() == ""

    def test_one_that_explains_itself_comes_first_and_each_names_its_method(self, tmp_path: Path) -> None:
        grpo = TINY.model_copy(update={"explanation": TINY.explanation.model_copy(update={"source": "none"})})
        make_run(tmp_path, "control", config=grpo, at=3)
        opening = Opening(TINY, tmp_path)
        assert opening.starts_with() == "control"  # nothing else is there
        make_run(tmp_path, "older", at=1)
        make_run(tmp_path, "mine", at=2)
        make_run(tmp_path, "going-on", state="running", at=4)
        assert opening.starts_with() == "mine"
        assert opening.titles() == {
            "going-on": "going-on · ExPO",
            "control": "control · GRPO",
            "mine": "mine · ExPO",
            "older": "older · ExPO",
        }
        assert Opening(TINY, tmp_path, chosen="control").starts_with() == "control"
        assert checked(opening, "1+1?", "2", "control", True, 0).model == "control · GRPO"
        (tmp_path / "alone").mkdir()
        assert Opening(TINY, tmp_path, own_adapter=tmp_path / "alone").titles()["alone"] == "alone"
        inside = tmp_path / "mine" / "adapter"
        assert Opening(TINY, tmp_path, own_adapter=inside).titles()["adapter"] == "adapter · ExPO"

    @pytest.mark.parametrize("model", ["../done", "/etc", "missing", "done/adapter"])
    def test_a_model_is_asked_for_by_a_name_that_is_offered(self, tmp_path: Path, model: str) -> None:
        make_run(tmp_path, "done")
        opening = Opening(TINY, tmp_path)
        assert checked(opening, "1+1?", "2", "done", True, 0).adapter == tmp_path / "done" / "adapter"
        assert checked(opening, "1+1?", "2", "", True, 0).adapter is None
        with pytest.raises(DataError, match="There is no trained model"):
            checked(opening, "1+1?", "2", model, True, 0)
        with pytest.raises(ConfigError, match="explained_by: should be base or trained"):
            checked(opening, "1+1?", "2", "done", True, 0, model)


class TestWaysIn:
    def test_nothing_given_is_the_tiny_preset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        options = read_options([])
        assert (options.opening.config, options.opening.root) == (TINY, Path("runs"))
        assert (options.share, options.password, options.port) == (False, None, None)

    def test_a_run_is_shown_with_its_own_settings_and_neighbours(self, tmp_path: Path) -> None:
        config = TINY.model_copy(update={"seed": 7})
        make_run(tmp_path, "mine", config=config, at=1)
        make_run(tmp_path, "newer", at=2)
        opening = read_options(["--run", str(tmp_path / "mine")]).opening
        assert (opening.root, opening.starts_with()) == (tmp_path, "mine")
        assert opening.config.policy.adapter == str(tmp_path / "mine" / "adapter")
        assert opening.config.model_copy(update={"policy": config.policy}) == config

    def test_an_adapter_inside_its_run_and_alone(self, tmp_path: Path) -> None:
        described = '{"base_model_name_or_path": "%s", "r": 8, "lora_alpha": 16}'
        make_run(tmp_path, "mine")
        (tmp_path / "mine" / "adapter" / "adapter_config.json").write_text(described % "/else/where/tiny/base")
        inside = read_options(["--adapter", str(tmp_path / "mine" / "adapter")]).opening
        assert (inside.config.prompt, inside.config.policy.model, inside.starts_with()) == (
            TINY.prompt,
            "tiny",
            "adapter",
        )
        (tmp_path / "alone").mkdir()
        (tmp_path / "alone" / "adapter_config.json").write_text(described % "some/model")
        alone = read_options(["--adapter", str(tmp_path / "alone")]).opening
        assert (alone.config.policy.model, alone.config.policy.lora_rank, alone.has_problems) == (
            "some/model",
            8,
            False,
        )

    def test_shared_only_with_a_password(self) -> None:
        made_up = {read_options(["--share"]).password for _ in range(3)}
        assert len(made_up) == 3 and all(password and len(password) >= 12 for password in made_up)
        assert read_options(["--share", "--password", "long enough"]).password == "long enough"

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--share", "--password", "short"], "at least 8 characters"),
            (["--preset", "tinny"], "did you mean tiny"),
            (["--run", "/no/such/run"], "there is no run"),
            (["--adapter", "/no/such/adapter"], "holds no adapter"),
            (["--preset", "tiny", "--run", "x"], "not allowed with"),
            (["--port", "many"], "invalid int"),
            (["--port", "70000"], "from 1 to 65535 (got 70000)"),
            (["--rnu", "x"], "unrecognized"),
        ],
    )
    def test_mistakes_are_one_sentence_and_status_2(
        self, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert app.main(argv) == 2
        shown = capsys.readouterr()
        assert message in shown.err and "Traceback" not in shown.err and len(shown.err.splitlines()) == 1

    def test_a_run_outside_the_given_root_is_refused(self, tmp_path: Path) -> None:
        make_run(tmp_path / "a", "mine")
        with pytest.raises(ConfigError, match="not directly below"):
            read_options(["--run", str(tmp_path / "a" / "mine"), "--root", str(tmp_path / "b")])

    def test_without_gradio_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert cli.main(["app"]) == 2
        assert capsys.readouterr().err == "The app needs gradio, which is not installed: pip install 'expo-lite[app]'\n"


# ---------------------------------------------------------------------------------------------------------- worker


@pytest.fixture
def worker() -> Iterator[ModelWorker[str]]:
    made = ModelWorker(lambda: "the model")
    made.wait_until_open()
    yield made
    made.close()


def endless(started: threading.Event, ended: threading.Event) -> Any:
    """A job that emits until it is stopped."""

    def job(model: str, emit: Any) -> None:
        try:
            while True:
                emit("token")
                started.set()
                time.sleep(0.001)
        finally:
            ended.set()

    return job


class TestWorker:
    def test_events_then_the_result_all_from_one_thread(self, worker: ModelWorker[str]) -> None:
        threads = []

        def job(model: str, emit: Any) -> str:
            threads.append(threading.current_thread().name)
            emit("a")
            return model

        assert list(worker.submit("v", job).events()) == ["a", Done("the model")]
        assert list(worker.submit("v", job).events()) == ["a", Done("the model")]
        assert set(threads) == {"model-worker"}

    def test_two_users_get_their_own_answers_in_turn(self, worker: ModelWorker[str]) -> None:
        busy = threading.Lock()

        def job(name: str) -> Any:
            def run(model: str, emit: Any) -> str:
                assert busy.acquire(blocking=False), "two jobs at once"
                for n in range(20):
                    emit((name, n))
                    time.sleep(0.001)
                busy.release()
                return name

            return run

        tickets = {name: worker.submit(name, job(name)) for name in "abc"}
        for name, ticket in tickets.items():
            events = [e for e in ticket.events() if not isinstance(e, Waiting)]
            assert events == [*((name, n) for n in range(20)), Done(name)]

    def test_those_who_wait_are_told_how_many_come_before(self, worker: ModelWorker[str]) -> None:
        started, ended = threading.Event(), threading.Event()
        first = worker.submit("a", endless(started, ended))
        assert started.wait(5)
        second, third = worker.submit("b", lambda *_: "b"), worker.submit("c", lambda *_: "c")
        seconds_places, places = second.events(), third.events()
        assert (next(seconds_places), next(places)) == (Waiting(1), Waiting(2))
        first.stop()
        assert [e for e in places if e != Waiting(2)][-2:] == [Waiting(1), Done("c")]

    def test_stop_ends_the_reading_at_once_and_the_job_soon(self, worker: ModelWorker[str]) -> None:
        started, ended = threading.Event(), threading.Event()
        events = worker.submit("a", endless(started, ended)).events()
        next(events)
        worker.stop("a")
        assert list(events) == []
        assert ended.wait(5)

    def test_stop_ends_a_press_that_arrives_after_it(self, worker: ModelWorker[str]) -> None:
        begun: list[int] = []
        worker.stop("hasty", press=2)
        late = worker.submit("hasty", lambda *_: begun.append(2), press=2)
        assert list(late.events()) == [] and not late.is_silent
        other = worker.submit("other", lambda *_: begun.append(0), press=1)
        assert list(other.events())[-1] == Done(None)
        newer = worker.submit("hasty", lambda *_: begun.append(3), press=3)
        late = worker.submit("hasty", lambda *_: begun.append(2), press=2)  # nor does it replace a newer one
        assert list(newer.events())[-1] == Done(None) and list(late.events()) == []
        assert begun == [0, 3]

    def test_clear_is_silent_also_for_a_press_that_arrives_after_it(self, worker: ModelWorker[str]) -> None:
        worker.stop("hasty", silently=True, press=1)
        late = worker.submit("hasty", lambda *_: 1, press=1)
        assert list(boards(late, TestBoards.ASKED)) == []

    def test_stops_are_not_remembered_for_ever(self, worker: ModelWorker[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker_module, "STOPS_REMEMBERED", 2)
        for user in "abca":
            worker.stop(user, press=1)
        assert list(worker._stops) == ["c", "a"]

    def test_stop_is_at_once_also_while_the_model_says_nothing(self, worker: ModelWorker[str]) -> None:
        started, go_on = threading.Event(), threading.Event()

        def silent(model: str, emit: Any) -> None:
            started.set()
            go_on.wait(10)

        ticket = worker.submit("a", silent)
        assert started.wait(5)
        threading.Timer(0.1, lambda: worker.stop("a")).start()
        begun = time.monotonic()
        assert list(ticket.events()) == []
        assert time.monotonic() - begun < 1
        go_on.set()

    def test_closing_the_view_stops_the_job(self, worker: ModelWorker[str]) -> None:
        started, ended = threading.Event(), threading.Event()
        events = worker.submit("a", endless(started, ended)).events()
        next(events)
        events.close()  # type: ignore[attr-defined]
        assert ended.wait(5)

    def test_a_user_who_reads_no_more_has_left(self, worker: ModelWorker[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(worker_module, "PATIENCE_SECONDS", 0.1)
        started, ended = threading.Event(), threading.Event()
        worker.submit("gone", endless(started, ended))
        assert ended.wait(5)
        assert list(worker.submit("here", lambda *_: 1).events())[-1] == Done(1)

    def test_fifty_rapid_presses_are_one_job(self, worker: ModelWorker[str]) -> None:
        done: list[int] = []
        started, ended = threading.Event(), threading.Event()
        worker.submit("other", endless(started, ended))
        assert started.wait(5)
        tickets = [worker.submit("hasty", lambda *_, n=n: done.append(n)) for n in range(50)]
        worker.stop("other")
        assert [list(t.events()) for t in tickets[:-1]] == [[]] * 49
        assert list(tickets[-1].events())[-1] == Done(None)
        assert done == [49]

    def test_too_many_users_are_told_so(self, worker: ModelWorker[str]) -> None:
        started, ended = threading.Event(), threading.Event()
        worker.submit("first", endless(started, ended))
        assert started.wait(5)
        for n in range(worker_module.MOST_WAITING):
            worker.submit(f"user {n}", lambda *_: None)
        with pytest.raises(ExpoLiteError, match="16 users are waiting already"):
            worker.submit("one more", lambda *_: None)

    def test_errors_are_sentences_and_the_worker_lives_on(
        self, worker: ModelWorker[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(model: str, emit: Any) -> None:
            raise KeyError("secret/path")

        def refused(model: str, emit: Any) -> None:
            raise DataError("The question is too long.")

        (event,) = worker.submit("a", broken).events()
        assert isinstance(event, Failed) and "KeyError" in event.sentence and "secret" not in event.sentence
        assert "secret/path" in caplog.text
        assert list(worker.submit("a", refused).events()) == [Failed("The question is too long.")]
        assert list(worker.submit("a", lambda *_: 1).events()) == [Done(1)]

    def test_a_model_that_cannot_be_opened_says_why(self) -> None:
        def open_model() -> str:
            raise ConfigError("no GPU")

        with pytest.raises(ConfigError, match="no GPU"):
            ModelWorker(open_model).wait_until_open()

    def test_closing_stops_what_runs_and_waits(self) -> None:
        made = ModelWorker(lambda: "the model")
        started, ended = threading.Event(), threading.Event()
        running = made.submit("a", endless(started, ended)).events()
        next(running)
        waiting = made.submit("b", lambda *_: 1)
        made.close()
        assert ended.is_set() and list(waiting.events()) == []


class TestBoards:
    """What a press shows, event by event."""

    ASKED = CompareQuestion(Problem("asked", "1+1?", "2"), Path("adapter"), True, 0)

    def shown(self, *events: Any, stop: bool = False, asked: CompareQuestion = ASKED) -> list[tuple[Board, str]]:
        ticket = Ticket("v", lambda *_: None)
        for event in events:
            ticket.tell(event)
        seen = []
        for board in boards(ticket, asked):
            seen.append(board)
            if stop and len(seen) == len(events):
                ticket.stop()
        return seen

    def test_waiting_writing_done(self) -> None:
        drafts = {BEFORE: Draft("1", 1, 0.1)}
        (w, waiting), (r, writing), (d, done) = self.shown(Waiting(1), drafts, Done(comparison()))
        assert waiting == "1 user is before you." and not w.running
        assert r.running and r.drafts == drafts and writing.startswith("Writing")
        assert d.comparison is not None and done.startswith("Done. Wrong before, right after")

    def test_stopped_keeps_what_was_written(self) -> None:
        *_, (board, sentence) = self.shown({BEFORE: Draft("1", 1, 0.1)}, stop=True)
        assert sentence == "Stopped." and board.drafts and not board.running

    def test_failed_says_why(self) -> None:
        assert self.shown(Failed("Too long."))[-1][1] == "Too long."

    def test_stopped_is_an_exception_for_jobs_only(self) -> None:
        ticket = Ticket("v", lambda *_: None)
        ticket.stop()
        with pytest.raises(Stopped):
            ticket.emit("token")


# ----------------------------------------------------------------------------------------------------------- Clear


@pytest.fixture
def context(tmp_path: Path, worker: ModelWorker[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a Compare tab that writes until it is stopped."""
    pytest.importorskip("gradio")
    from expo_lite.app.compare import events
    from expo_lite.app.context import AppContext

    def endless_drafts(asked: CompareQuestion) -> Any:
        def job(model: str, emit: Any) -> None:
            while True:
                emit({BEFORE: Draft("1+", 2, 0.1)})
                time.sleep(0.001)

        return job

    monkeypatch.setattr(events, "compare_job", endless_drafts)
    return AppContext(worker, Opening(TINY, tmp_path), {})  # type: ignore[arg-type]


class TestClear:
    """The browser shows the answers of each event in their order, but those of two events in any order."""

    VISITOR = SimpleNamespace(session_hash="a")

    def press(self, context: Any, number: int) -> Iterator[tuple[str, str, str]]:
        from expo_lite.app.compare import events

        asked = ("What is 1+1?", "2", "What is 1+1?", "", BASE, True, 0, number)
        first, *_, stop = next(shown := events.press(context)(*asked, self.VISITOR))
        assert stop.interactive and "html" not in first  # Stop at once, and nothing else yet
        return ((board, likelihoods, status) for board, likelihoods, status, _ in shown)

    def test_the_last_that_a_press_shows_is_nothing(self, context: Any) -> None:
        from expo_lite.app.compare import events

        shown = self.press(context, 1)
        assert any("writing" in board for board, _, _ in shown)  # and no further yet
        cleared = events.clear(context)("", BASE, 1, self.VISITOR)
        assert cleared[:2] == ("", "") and is_empty(cleared[2])
        assert cleared[3:] == ("", events.status(events.INVITATION))
        assert list(shown) == list(self.press(context, 1)) == [cleared[2:]]  # also of a press that Clear overtook
        again = self.press(context, 2)
        assert any("writing" in board for board, _, _ in again)
        events.stop(context)(2, self.VISITOR)
        assert "Stopped" in list(again)[-1][2]

    def test_what_was_shown_after_clear_goes_when_the_press_has_ended(self, context: Any) -> None:
        from expo_lite.app.compare import events

        def ended(number: int, visitor: Any = self.VISITOR) -> list[Any]:
            *shown, stop = events.ended(context)("", BASE, number, visitor)
            assert not stop.interactive  # nothing is left to stop
            return shown

        skipped = [{"__type__": "update"}] * 3
        assert ended(1) == skipped
        cleared = events.clear(context)("", BASE, 1, self.VISITOR)
        assert ended(1) == list(cleared[2:])
        assert ended(2) == skipped  # pressed after Clear
        assert ended(1, SimpleNamespace(session_hash="b")) == skipped
        events.stop(context)(2, self.VISITOR)
        assert ended(2) == skipped

    def test_the_page_asks_after_each_press_and_breaks_none_off(self, context: Any) -> None:
        import gradio as gr

        from expo_lite.app.compare import tab
        from expo_lite.app.shell import Shell

        with gr.Blocks() as page, gr.Tabs() as tabs, gr.Tab("Compare", id="compare"):
            tab.build(context, Shell(page, tabs, {"compare"}, gr.State("")))
        by_name = {one.name: one for one in page.fns.values()}
        assert by_name["ended"].trigger_after == by_name["press"]._id
        shown = by_name["press"].outputs
        assert by_name["ended"].outputs == shown and shown[:-1] == by_name["clear"].outputs[2:]
        assert shown[-1].elem_id == "stop"
        assert not any(one.cancels for one in page.fns.values())
