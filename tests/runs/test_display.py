"""What a run shows, on a clock that the tests move: rows on terminals of fixed width, lines in a log."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest
from rich.console import Console

from expo_lite.core.progress import PhaseProgress
from expo_lite.grading.evaluator import Evaluation, LevelScore
from expo_lite.grading.intervals import Estimate
from expo_lite.runs.bars import Moment, figure, time_left
from expo_lite.runs.display import LOG_SECONDS, Display, say

WIDTHS = (80, 100, 140)
METRICS = {
    "reward_mean": 0.344, "failed_groups": 5, "mixed_groups": 2, "solved_groups": 1, "rescued_groups": 4, "updates": 1,
    "generate_seconds": 12.34, "verify_seconds": 0.2, "explain_seconds": 3.21, "train_seconds": 1234.5,
}  # fmt: skip


class Watched:
    """A display on a terminal of `width` columns, or on a log, with a clock that stands until it is moved."""

    def __init__(self, width: int, terminal: bool, steps: int = 100, done: int = 0) -> None:
        self.now = 1000.0
        self.file = io.StringIO()
        # a log's console knows no width, and rich takes 80 columns
        self.console = Console(file=self.file, width=width, height=24, force_terminal=terminal, legacy_windows=False)
        self.display = Display(self.console, steps, done, clock=lambda: self.now)

    def tell(self, phase: str, done: int, total: int, tokens: int, share: float, after: float = 0.0) -> None:
        self.now += after
        self.display.on_progress(PhaseProgress(phase, done, total, "completions", tokens, share))

    def step(self, number: int, after: float, **changed: float) -> None:
        self.now += after
        self.display.step(number, {**METRICS, **changed})

    def rows(self) -> list[str]:
        """The rows as they are on the screen now."""
        with self.console.capture() as shown:
            self.console.print(self.display.phases.rows())
        *rows, last = re.sub(r"\x1b\[[0-9;]*m", "", shown.get()).splitlines()
        assert last == ""  # else ^C would be echoed at the end of a full row, and move all of them
        return [row.rstrip() for row in rows]

    @property
    def log(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
class TestRows:
    def test_before_the_first_step(self, width: int) -> None:
        watched = Watched(width, terminal=True)
        watched.tell("base validation", 0, 1280, 0, 0.0)
        watched.tell("base validation", 320, 1280, 81_200, 0.25, after=100)
        run, phase = watched.rows()
        assert re.match(r"step +0/100  ━{8}   -:--:-- left  reward     -  rescued   -", run)
        assert re.match(r"base validation +320/1280  ━━╺━{5}   0:05:00 left      812 tok/s$", phase)

    def test_inside_a_long_step(self, width: int) -> None:
        """Step, time left and reward are whole, and more of the last step is there where there is room."""
        watched = Watched(width, terminal=True)
        watched.display.begin_steps()
        for number in range(1, 13):
            watched.step(number, after=100)
        watched.tell("explanations", 0, 64, 0, 0.0)
        watched.tell("explanations", 41, 64, 4060, 0.5, after=5)
        run, phase = watched.rows()
        # 88 steps of 100 s, 5 of which are over
        assert re.match(r"step {18}12/100  ╸━{7}   2:26:35 left  reward  0.34  rescued   4", run)
        assert re.match(r"explanations {11}41/64  ━{4}╺━{3}   0:00:05 left      812 tok/s", phase)
        assert run.endswith({80: "rescued   4", 100: "failed   5", 140: "failed   5  mixed   2  solved   1"}[width])
        seconds = "tok/s  seconds  generate   12.3  verify    0.2  explain    3.2  train 1234.5"
        assert phase.endswith(seconds if width >= 140 else "tok/s")

    def test_the_time_left_goes_on_between_two_reports(self, width: int) -> None:
        watched = Watched(width, terminal=True)
        watched.tell("training", 0, 8, 0, 0.0)
        watched.tell("training", 4, 8, 4000, 0.5, after=60)
        watched.now += 20
        assert "0:00:40 left       67 tok/s" in watched.rows()[1]
        watched.now += 60
        assert "0:00:00 left       67 tok/s" in watched.rows()[1]  # later than it was expected

    def test_nothing_moves_but_digits_and_nothing_is_cut(self, width: int) -> None:
        """Whatever happens, every column stays where it is."""
        watched = Watched(width, terminal=True, steps=5000)
        watched.display.begin_steps()
        shapes = set()
        for number, (reward, phase, tokens) in enumerate(
            [
                (0.0, "rollouts", 9),
                (-1.0, "base validation", 99_999),
                (12.345, "training", 4_123_456),
                (123.4, "test", 1),
            ]
        ):
            watched.step(
                10**number, after=7.0 * 20**number, reward_mean=reward, rescued_groups=4**number, updates=number
            )
            for done, share, after in ((0, 0.0, 0), (1, 0.001, 1), (9, 0.1, 2), (99, 0.9, 99), (20_000, 1.0, 5000)):
                watched.tell(phase, done, 20_000, tokens * done, share, after)
                run, row = watched.rows()
                assert len(run) <= width and len(row) <= width and "…" not in run + row
                assert f"{10**number}/5000" in run and f"{done}/20000" in row and f"reward {figure(reward)}" in run
                shapes.add(
                    (run.index("/"), run.index(" left"), run.index("reward"), row.index("/"), row.index(" left"))
                )
                assert ("no signal" in run) == (number == 0) and ("rescued" in run) == (number > 0)
                assert not tokens * done or re.search(r"left  +[0-9e+]+ tok/s", row)
        assert shapes == {(23, 48, 55, 22, 48)}

    def test_after_resuming_only_this_sessions_steps_tell_the_time(self, width: int) -> None:
        watched = Watched(width, terminal=True, done=90)
        watched.now += 1000  # scoring the base is not a step
        watched.display.begin_steps()
        assert " 90/100" in watched.rows()[0] and "-:--:-- left" in watched.rows()[0]
        watched.step(91, after=10)
        assert "0:01:30 left" in watched.rows()[0]


@pytest.mark.parametrize("width", [20, 41, 45, 55, 60, 67, 79])
def test_in_a_narrow_terminal_whole_columns_are_left_out(width: int) -> None:
    watched = Watched(width, terminal=True)
    watched.display.begin_steps()
    watched.step(12, after=100)
    watched.tell("rollouts", 41, 64, 99, 0.5)
    for row in watched.rows():
        assert len(row) <= width and "…" not in row
        assert width < 45 or re.match(r"(step +12/100|rollouts +41/64)\b", row)
    assert ("left" in watched.rows()[0]) == (width >= 60)
    assert width < 45 or "reward  0.34" in watched.rows()[0]


@pytest.mark.parametrize("width", WIDTHS)
class TestLog:
    def test_a_long_phase_says_where_it_is_every_half_minute(self, width: int) -> None:
        watched = Watched(width, terminal=False)
        with watched.display:
            watched.tell("base test", 0, 1280, 0, 0.0)
            for second in range(1, 601):
                watched.tell("base test", 2 * second, 1280, 812 * second, second / 640, after=1)
        assert len(watched.log) == 600 // LOG_SECONDS
        assert watched.log[0] == (
            "step   0/100  base test            60/1280 completions      812 tok/s   0:10:10 left"
        )
        assert len({len(line) for line in watched.log}) == 1
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", watched.file.getvalue())

    @pytest.mark.parametrize(
        ("seconds", "step_lines", "lines"), [(1, 3, 3), (28, 50, 50), (32, 100, 100), (104, 100, 300)]
    )
    def test_a_line_for_each_long_step(self, seconds: int, step_lines: int, lines: int, width: int) -> None:
        """Of short steps only one in half a minute has one; within long ones there are lines of phases too."""
        watched, times = Watched(width, terminal=False), list[float]()
        watched.display.begin_steps()
        for number in range(1, 101):
            for part in range(8):
                watched.tell("rollouts", part, 10, 50 * part, part / 10, after=seconds / 8 if part else 0)
                times += [watched.now] * (len(watched.log) - len(times))
            watched.step(number, after=seconds / 8)
            times += [watched.now] * (len(watched.log) - len(times))
        of_steps = [line for line in watched.log if "reward" in line]
        assert (len(of_steps), len(watched.log)) == (step_lines, lines)
        assert len({len(line) for line in of_steps}) == 1
        last = "step  90/100   0:00:10 left" if seconds == 1 else "step 100/100   0:00:00 left"
        figures = "reward  0.34  rescued   4  failed   5  mixed   2  solved   1  seconds  generate   12.3"
        assert of_steps[-1].startswith(f"{last}  {figures}")
        steps_at = {at for at, line in zip(times, watched.log, strict=True) if "reward" in line}
        assert all(after - before >= LOG_SECONDS for before, after in pairwise(times) if after not in steps_at)

    def test_lines_are_whole_however_long(self, width: int) -> None:
        watched = Watched(width, terminal=False)
        watched.display.validation(25, evaluation(*range(0, 101, 10)), 0.36)
        watched.display.note("a sentence of many words " * 20)
        scores = "  ".join(f"L{level} {10 * level - 10:3.0f}" for level in range(1, 12))
        assert watched.log[0] == f"step  25  validation pass@1 %  {scores}  worst -36"
        assert len(watched.log) == 2


def evaluation(*percents: float) -> Evaluation:
    def score(level: int, percent: float) -> LevelScore:
        estimate = Estimate(percent / 100, 0.0, 1.0)
        return LevelScore(level, 64, 4, 4, estimate, estimate, 0.0)

    return Evaluation([score(level, percent) for level, percent in enumerate(percents, 1)])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("step", "forgotten", "end"), [(0, 0.0, "(base)"), (25, 0.36, "worst -36"), (50, 0.0, "100")])
def test_five_levels_fit_into_a_line_of_a_terminal(step: int, forgotten: float, end: str, width: int) -> None:
    watched = Watched(width, terminal=True)
    watched.display.validation(step, evaluation(100, 100, 59, 0, 100), forgotten)
    (line,) = watched.log
    assert line.startswith(
        f"step {step:>3}  validation pass@1 %  L1 100  L2 100  L3  59  L4   0  L5 100"
    ) and line.endswith(end)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sentence_breaks_between_words_on_a_terminal(width: int) -> None:
    text = (
        "Level 3 has fallen from 95% to 59%. If it stays down, give it more weight in data.levels, or lower the rate. "
        * 3
    )
    watched = Watched(width, terminal=True)
    say(watched.console, text.strip())
    assert len(watched.log) > 2 and all(len(line) <= width for line in watched.log)
    assert " ".join(line.strip() for line in watched.log) == text.strip()


def test_on_a_terminal_the_rows_are_gone_in_the_end() -> None:
    watched = Watched(80, terminal=True)
    with watched.display:
        watched.tell("rollouts", 1, 2, 50, 0.5, after=1)
        assert watched.display.phases.live is not None
        watched.display.phases.live.refresh()
        watched.display.note("a note")
    shown = watched.file.getvalue()
    erase_a_row = "\x1b[1A\x1b[2K"
    assert "a note" in shown and erase_a_row * 2 in shown[shown.rindex("rollouts") :]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, " 0:00:00 left"), (59.6, " 0:01:00 left"), (3661, " 1:01:01 left"), (99 * 3600, "99:00:00 left"),
        (100 * 3600, "  4d 04h left"), (None, " -:--:-- left"),
    ],
)  # fmt: skip
def test_times_are_thirteen_columns(seconds: float | None, text: str) -> None:
    assert time_left(seconds) == text and len(text) == 13


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.344, " 0.34"), (-1.0, "-1.00"), (-12.25, "-12.2"), (123.4, "123.4"), (12345.6, "12346"), (1e6, "1e+06"),
        (None, "    -"),
    ],
)  # fmt: skip
def test_figures_are_five_columns(value: float | None, text: str) -> None:
    assert figure(value) == text


class TestMoment:
    def after(self, *told: tuple[float, str, int, int, float]) -> Moment:
        moment = None
        for now, phase, done, tokens, share in told:
            moment = Moment.after(moment, PhaseProgress(phase, done, 10, "completions", tokens, share), now)
        assert moment is not None
        return moment

    def test_the_same_phase_of_the_next_step_begins_anew(self) -> None:
        moment = self.after((0, "rollouts", 0, 0, 0.0), (50, "rollouts", 10, 90, 1.0), (60, "rollouts", 0, 0, 0.0))
        assert moment.began == 60 and moment.tokens_per_second is None and moment.seconds_left(61) is None
        moment = Moment.after(moment, PhaseProgress("rollouts", 5, 10, "completions", 20, 0.25), 62)
        assert moment.tokens_per_second == 10 and moment.seconds_left(62) == 6

    def test_what_was_there_before_is_no_measure_of_the_time(self) -> None:
        """An evaluation that goes on with 80 % of its answers: 10 % in 20 s, so the last 10 % take as long."""
        assert self.after((0, "base", 8, 0, 0.8), (20, "base", 9, 50, 0.9)).seconds_left(20) == pytest.approx(20)

    def test_a_wave_in_which_nothing_has_ended_goes_on(self) -> None:
        moment = self.after((0, "rollouts", 0, 0, 0.0), (1, "rollouts", 0, 4, 0.1), (2, "rollouts", 0, 8, 0.2))
        assert moment.began == 0 and moment.tokens_per_second == 4
