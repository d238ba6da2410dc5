"""Verdicts: the rules, and the workers that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.verdicts import PAIRS, AnswerPair
from expo_lite.core.records import Verdict
from expo_lite.grading import verifier as verifier_module
from expo_lite.grading.equivalence import settle
from expo_lite.grading.verifier import Verifier, reward, verdict
from expo_lite.grading.worker import MEMORY_BYTES

FREEZES = r"9^{9^{9}}"
ROOTS = (r"2\sqrt{3}", r"\sqrt{12}")  # equal, but only math-verify knows


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(timeout_seconds=5) as shared:
        yield shared


def boxed(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    return [(gold, f"So the answer is \\boxed{{{answer}}}.") for gold, answer in pairs]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.kind}: {pair.gold[:40]} | {pair.answer[:40]}")
def test_pairs(verifier: Verifier, pair: AnswerPair) -> None:
    expected = Verdict.CORRECT if pair.right else Verdict.WRONG
    completion = rf"\boxed{{0}} \boxed{{{pair.answer}}}"
    assert verifier.judge([(pair.gold, completion)]) == [expected]


def test_every_pair_stands_there_once() -> None:
    assert len({(pair.gold, pair.answer) for pair in PAIRS}) == len(PAIRS)


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


@pytest.mark.parametrize(("left", "right"), [(r"\{", r"\}"), ("(", ")"), ("[", "]"), (r"\frac{", "}"), ("-", "")])
def test_brackets_in_brackets_do_not_raise(left: str, right: str) -> None:
    deep = left * 240 + "1" + right * 240
    assert settle("1", deep) in (True, False, None)
    assert settle(f"{left}{deep}{right}", deep) in (True, False, None)


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


def worker_pids(verifier: Verifier) -> set[int]:
    """Return the ids of the worker processes."""
    assert verifier._pool is not None
    return set(verifier._pool._pool_manager.worker_manager.workers)


def busy_pid(verifier: Verifier) -> int:
    """Wait until a worker has taken a judgement, and return its id."""
    assert verifier._pool is not None
    while True:
        tasks = list(verifier._pool._pool_manager.task_manager.tasks.values())
        if pids := [task.worker_id for task in tasks if task.started]:
            return pids[0]
        time.sleep(0.01)


def kill_busy(verifier: Verifier) -> threading.Thread:
    """Kill the worker that takes the next judgement."""
    killer = threading.Thread(target=lambda: os.kill(busy_pid(verifier), signal.SIGKILL))
    killer.start()
    return killer


def test_a_killed_worker_loses_only_its_task(caplog: pytest.LogCaptureFixture) -> None:
    with Verifier(timeout_seconds=30) as victim:
        assert victim.judge(boxed(ROOTS)) == [Verdict.CORRECT]
        killer = kill_busy(victim)
        start = time.perf_counter()
        verdicts = victim.judge(boxed(("5", FREEZES), (r"3\sqrt{3}", r"\sqrt{27}"), (r"\sqrt{5}", r"\sqrt{6}")))
        killer.join()
        assert time.perf_counter() - start < 25  # did not wait for the timeout
        assert verdicts == [Verdict.WRONG, Verdict.CORRECT, Verdict.WRONG]
        assert "worker died" in caplog.text


def test_an_idle_worker_may_die() -> None:
    with Verifier() as victim:
        assert victim.judge(boxed(ROOTS)) == [Verdict.CORRECT]
        os.kill(worker_pids(victim).pop(), signal.SIGKILL)
        time.sleep(0.5)
        assert victim.judge(boxed((r"3\sqrt{3}", r"\sqrt{27}"))) == [Verdict.CORRECT]


def test_workers_survive_ctrl_c_from_their_start() -> None:
    with Verifier() as fresh:
        future = fresh._submit(ROOTS)  # returns while the workers' interpreters are still starting
        pids = worker_pids(fresh)
        assert len(pids) == 2
        for _ in range(10):
            for pid in pids:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.05)
        assert future.result(timeout=60) is True
        assert worker_pids(fresh) == pids


class TestWorkers:
    """One more than judge, and each within its bounds."""

    def test_the_spare_answers_after_a_timeout(self) -> None:
        with Verifier(timeout_seconds=1) as strict:
            strict.judge(boxed(ROOTS))
            pool, before, ready = strict._pool, worker_pids(strict), set[int]()
            assert pool is not None and len(before) == 2
            while ready != before:  # both have imported what they need
                ready.add(pool.schedule(os.getpid).result(timeout=60))
            assert strict.judge(boxed(("5", FREEZES))) == [Verdict.TIMEOUT]
            spare = before & worker_pids(strict)
            assert len(spare) == 1
            assert {pool.schedule(os.getpid).result(timeout=60)} == spare

    def test_as_many_judge_as_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Verifier(timeout_seconds=30) as one:
            at_once: list[int] = []
            original = one._submit

            def submit(pair: tuple[str, str]) -> object:
                assert all(future.done() for future in futures)
                futures.append(original(pair))
                at_once.append(len(futures))
                return futures[-1]

            futures: list = []
            monkeypatch.setattr(one, "_submit", submit)
            pairs = boxed(*((rf"{n}\sqrt{{2}}", rf"\sqrt{{{2 * n * n}}}") for n in range(2, 8)))
            assert one.judge(pairs) == [Verdict.CORRECT] * 6
            assert at_once == [1, 2, 3, 4, 5, 6]

    @pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
    def test_memory_is_limited(self) -> None:
        with Verifier(timeout_seconds=30) as bounded:
            assert bounded.judge(boxed(ROOTS)) == [Verdict.CORRECT]
            pool = bounded._pool
            assert pool is not None
            with pytest.raises(MemoryError):
                pool.schedule(bytearray, args=(2 * MEMORY_BYTES,)).result(timeout=60)
            assert len(pool.schedule(bytes, args=(1024,)).result(timeout=60)) == 1024

    def test_out_of_memory_is_no_verdict(self, monkeypatch: pytest.MonkeyPatch, verifier: Verifier) -> None:
        future: Future[bool] = Future()
        future.set_exception(MemoryError())
        monkeypatch.setattr(verifier, "_submit", lambda pair: future)
        assert verifier.judge(boxed(("5", r"\sqrt{26}"))) == [Verdict.TIMEOUT]

    @pytest.mark.parametrize("answer", [FREEZES, r"\sqrt{12}"])
    def test_they_end_with_their_parent(self, answer: str, tmp_path: Path) -> None:
        script = tmp_path / "parent.py"
        script.write_text(PARENT.format(answer=answer))
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=here) as parent:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
            running = [is_running(pid) for pid in pids]
            parent.kill()
        assert running == [True, True]
        _wait_for(lambda: not any(map(is_running, pids)), seconds=20)


PARENT = r"""
import threading, time
from expo_lite.grading.verifier import Verifier

if __name__ == "__main__":
    verifier = Verifier(timeout_seconds=600)
    first = threading.Thread(target=verifier.judge, args=([(r"2\sqrt{{3}}", r"\boxed{{\sqrt{{12}}}}")],))
    first.start()
    first.join()  # the workers outlive the thread that asked first
    manager = verifier._pool._pool_manager
    pids = list(manager.worker_manager.workers)
    threading.Thread(target=verifier.judge, args=([("5", r"\boxed{{{answer}}}")],), daemon=True).start()
    while "9" in r"{answer}" and not any(task.started for task in list(manager.task_manager.tasks.values())):
        time.sleep(0.01)
    time.sleep(0.5)
    assert list(manager.worker_manager.workers) == pids
    print(*pids, flush=True)
    time.sleep(600)
"""


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether it still does anything; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
