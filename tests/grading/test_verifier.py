"""Verdicts: the rules, and the workers that can be killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expo_lite.core.records import Verdict
from expo_lite.grading import verifier as verifier_module
from expo_lite.grading.equivalence import settle
from expo_lite.grading.verifier import Verifier, reward, verdict

FREEZES = r"9^{9^{9}}"
ROOTS = (r"2\sqrt{3}", r"\sqrt{12}")  # equal, but only math-verify knows


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(timeout_seconds=5) as shared:
        yield shared


def boxed(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    return [(gold, f"So the answer is \\boxed{{{answer}}}.") for gold, answer in pairs]


RIGHT = [
    *[("3", "x=3"), ("x=3", "3"), ("5", "2+3=5"), ("5", "x=2+3"), ("72", "f(3) = 72"), ("72", r"\text{the area} = 72")],
    *[("1, 2", "x=1, x=2"), ("x=1, x=2", "2, 1"), ("(1,2)", "(x,y) = (1,2)"), ("[1,2]", r"x \in [1,2]")],
    *[(r"\frac{1}{2}", "½"), (r"\sqrt{2}", "√2"), ("x^2", "x²"), (r"90^\circ", "90"), ("90", "90°")],
    *[("10000", r"10\,000"), ("10000", "10 000"), ("1.5", "1 1/2"), (r"\frac13", r"0.\overline{3}"), ("-7", "-007")],
    *[("3", "3."), ("-3", "- 3"), ("18", r"\$18"), (r"\$18", "18 dollars"), ("5", "5 apples"), ("3 cm", "3")],
    *[("3 cm", "3 centimeters"), ("10 m^2", r"10\text{ square meters}"), ("101_2", "101_{2}"), ("101_2", "101")],
    *[(r"50\%", "50"), (r"50\%", "0.5"), (r"\frac12", "50%"), ("100000", "1e5"), ("1024", "2^10")],
    *[(r"\text{Tuesday}", "tuesday"), ("A", r"\text{(A)}"), (r"\text{no solution}", "No solution")],
    *[ROOTS, (r"\sqrt{3}", "3^{1/2}"), ("(1,2)", "(1, 2)"), (r"\{1,2\}", r"\{2,1\}"), (r"\pm 2", "2, -2")],
    *[("x+y=3", "2x+2y=6"), (r"(-\infty,2)", "x<2"), ("(x+1)^2", "x^2+2x+1"), ("3x", "3 x"), ("3+4i", "4i+3")],
]

WRONG = [
    *[("3", "4=3"), ("5", "2+3=6=5"), ("3", "x=3=4"), ("3", "x+y=3"), ("5", r"\pi=5"), ("x=3", "y=3")],
    *[("x=3", "x=4=3"), ("x=3", "x=4")],
    *[("2e-7", "1e-7"), (r"2\pi\times10^{-7}", r"\pi\times10^{-7}"), (r"10^{-7}\pi", "0.0000002")],
    *[("3 cm", "3 km"), ("3 m", "3 m^2"), ("101_2", "101_3"), ("5 apples", "5 pears"), (r"50\%", "5")],
    *[("3", "maybe 3? no. ... no solution"), ("3", "3 no solution"), ("3", "3 or so"), ("3", "not 3"), ("3", "3...4")],
    *[("3", "3, 3"), ("1,2", "1,2,2"), ("3", "3 or 4"), ("3", r"\pm 3"), ("2", "x=3, x=2"), ("x=1,y=2", "x=2,y=1")],
    *[("3", "x<3"), ("3", r"3 \neq 4"), ("3", r"4 \to 3"), ("3", r"3\\4"), ("3", "3#4"), ("3", "3+"), ("7", r"3\ 4")],
    *[("12", "1 2"), ("1200", "1, 200"), ("3", "3x"), ("3", "3!"), ("3:30", "3:00"), ("(1,2)", "(2,1)")],
    *[("[1,2]", "(1,2)")],
    *[("A", "B"), ("CAB", "ABC"), ("live", "evil"), (r"\text{no}", "on"), (r"\infty", r"-\infty")],
    *[(r"\frac13", "0.33")],
    *[("3", "$"), ("3", r"\frac{1}{"), ("", "3"), ("3", "9" * 2000)],
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_right_answers(verifier: Verifier, gold: str, answer: str) -> None:
    assert verifier.judge(boxed((gold, answer))) == [Verdict.CORRECT]


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_wrong_answers(verifier: Verifier, gold: str, answer: str) -> None:
    completion = rf"\boxed{{0}} \boxed{{{answer}}}"
    assert verifier.judge([(gold, completion)]) == [Verdict.WRONG]


def test_only_the_last_box_counts(verifier: Verifier) -> None:
    twice = r"\boxed{70} ... \boxed{72}"
    assert verifier.judge([("72", twice), ("70", twice), ("72", "72")]) == [
        Verdict.CORRECT,
        Verdict.WRONG,
        Verdict.NO_ANSWER,
    ]


def test_only_correct_earns_reward() -> None:
    assert [verdict for verdict in Verdict if reward(verdict) == 1.0] == [Verdict.CORRECT]
    assert {reward(verdict) for verdict in Verdict} == {0.0, 1.0}


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_integers_need_no_worker(gold: int, other: int) -> None:
    expected = Verdict.CORRECT if gold == other else Verdict.WRONG
    for answer in (f"{other:,}", f"x = {other}", f"{other}.00", f"{other} cm", rf"\${other}"):
        assert verdict(str(gold), answer) is expected, answer


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=r"019 .,=+-/^_(){}[]\$%<>x", max_size=15), st.text(alphabet="01,=.x ", max_size=8))
def test_rules_never_raise(gold: str, answer: str) -> None:
    settle(gold, answer)


def test_plain_judgements_start_no_worker_and_are_quick() -> None:
    pairs = boxed(*((str(i), str(i + i % 2)) for i in range(128)))
    with Verifier() as quick:
        start = time.perf_counter()
        verdicts = quick.judge(pairs)
        elapsed = time.perf_counter() - start
        assert quick._pool is None
    assert verdicts == [Verdict.CORRECT, Verdict.WRONG] * 64
    assert elapsed < 0.1  # about 2 ms; the margin is for a busy machine


def test_a_freezing_answer_is_killed_alone() -> None:
    with Verifier(timeout_seconds=1) as strict:
        start = time.perf_counter()
        verdicts = strict.judge(boxed(ROOTS, ("5", FREEZES), (r"\sqrt{5}", r"\sqrt{6}"), ("4", "4")))
        assert time.perf_counter() - start < 20
        assert strict.judge(boxed(("5", FREEZES))) == [Verdict.TIMEOUT]  # remembered
    assert verdicts == [Verdict.CORRECT, Verdict.TIMEOUT, Verdict.WRONG, Verdict.CORRECT]


def test_equal_pairs_are_judged_once(monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
    settled, submitted = [], []
    original_verdict, original_submit = verifier_module.verdict, verifier._submit
    monkeypatch.setattr(verifier_module, "verdict", lambda *pair: settled.append(pair) or original_verdict(*pair))
    monkeypatch.setattr(verifier, "_submit", lambda pair: submitted.append(pair) or original_submit(pair))
    pairs = boxed((r"5\sqrt{3}", r"\sqrt{75}"), ("41", "41"), (r"5\sqrt{3}", r"\sqrt{75}"), ("41", "41"))
    assert verifier.judge(pairs) == verifier.judge(pairs) == [Verdict.CORRECT] * 4
    assert len(settled) == 2 and len(submitted) == 1


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier_module, "CACHE_SIZE", 3)
    plain = Verifier()
    plain.judge(boxed(*(("1", str(i)) for i in range(3))))
    plain.judge(boxed(("1", "0"), ("1", "3")))  # 0 is asked again, so 1 is the oldest
    assert [pair[1] for pair in plain._cache] == ["2", "0", "3"]


def test_usable_from_other_threads(verifier: Verifier) -> None:
    results: dict[int, list[Verdict]] = {}

    def judge(i: int) -> None:
        results[i] = verifier.judge(boxed((rf"{i}\sqrt{{2}}", rf"\sqrt{{{2 * i * i}}}"), (str(i), str(i + 1))))

    threads = [threading.Thread(target=judge, args=(i,)) for i in range(11, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {i: [Verdict.CORRECT, Verdict.WRONG] for i in range(11, 15)}


def worker_pid(verifier: Verifier) -> int:
    """Return the id of the one worker process, once it runs."""
    assert verifier._pool is not None
    (pid,) = verifier._pool._pool_manager.worker_manager.workers
    return pid


def test_a_killed_worker_loses_only_its_task(caplog: pytest.LogCaptureFixture) -> None:
    with Verifier(timeout_seconds=30) as victim:
        assert victim.judge(boxed(ROOTS)) == [Verdict.CORRECT]
        killer = threading.Timer(1.0, os.kill, (worker_pid(victim), signal.SIGKILL))
        killer.start()
        start = time.perf_counter()
        verdicts = victim.judge(boxed(("5", FREEZES), (r"3\sqrt{3}", r"\sqrt{27}"), (r"\sqrt{5}", r"\sqrt{6}")))
        killer.join()
        assert time.perf_counter() - start < 25  # did not wait for the timeout
        assert verdicts == [Verdict.WRONG, Verdict.CORRECT, Verdict.WRONG]
        assert "worker died" in caplog.text


def test_an_idle_worker_may_die() -> None:
    with Verifier() as victim:
        assert victim.judge(boxed(ROOTS)) == [Verdict.CORRECT]
        os.kill(worker_pid(victim), signal.SIGKILL)
        time.sleep(0.5)
        assert victim.judge(boxed((r"3\sqrt{3}", r"\sqrt{27}"))) == [Verdict.CORRECT]


def test_workers_survive_ctrl_c_from_their_start() -> None:
    with Verifier() as fresh:
        future = fresh._submit(ROOTS)  # returns while the worker's interpreter is still starting
        pid = worker_pid(fresh)
        for _ in range(10):
            os.kill(pid, signal.SIGINT)
            time.sleep(0.05)
        assert future.result(timeout=60) is True
        assert worker_pid(fresh) == pid


def test_a_closed_verifier_starts_again() -> None:
    once = Verifier()
    assert once.judge(boxed((r"\sqrt{8}", r"2\sqrt{2}"))) == [Verdict.CORRECT]
    once.close()
    once.close()
    assert once._pool is None
    assert once.judge(boxed((r"\sqrt{18}", r"3\sqrt{2}"))) == [Verdict.CORRECT]
    once.close()


@pytest.mark.parametrize("setting", [{"timeout_seconds": 0}, {"workers": 0}])
def test_settings_are_checked(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Verifier(**setting)
