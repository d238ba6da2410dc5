"""Judging completions: the last box of a completion against the problem's known answer.

What spelling and exact arithmetic cannot settle goes to math-verify in worker processes that can be killed: an answer
such as 9^{9^{9}} freezes an interpreter, and no timeout inside it helps. One worker more than may judge is kept, so
that another takes over at once. Rules: `expo_lite.grading.equivalence`; the process: `expo_lite.grading.worker`.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

from pebble import ProcessExpired, ProcessPool

from expo_lite.core.boxes import boxed_answer
from expo_lite.core.errors import ExpoLiteError
from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.grading.equivalence import settle
from expo_lite.grading.judge import Judgement, attempt_verdict
from expo_lite.grading.worker import judged, start_worker

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
"""(gold answer, given answer)."""

CACHE_SIZE = 65536
"""Pairs whose verdict is remembered; the least recently asked goes first."""


def reward(verdict: Verdict) -> float:
    """Return 1.0 for a correct answer, else 0.0."""
    return 1.0 if verdict is Verdict.CORRECT else 0.0


def verdict(gold: str, answer: str) -> Verdict | None:
    """Return the verdict on an extracted answer, or None if it takes math-verify (and so a worker)."""
    settled = settle(gold, answer)
    return None if settled is None else _VERDICTS[settled]


_VERDICTS = {True: Verdict.CORRECT, False: Verdict.WRONG}


class Verifier:
    """Judges batches of completions; workers start when first needed. Threads take turns; use as a context manager."""

    def __init__(self, timeout_seconds: int = 5, workers: int = 1) -> None:
        if timeout_seconds < 1 or workers < 1:
            raise ValueError(f"timeout_seconds and workers should be at least 1 (got {timeout_seconds}, {workers})")
        self._timeout_seconds, self._workers = timeout_seconds, workers
        self._pool: ProcessPool | None = None
        self._pool_is_over = threading.Event()
        self._cache: OrderedDict[Pair, Verdict] = OrderedDict()
        self._lock = threading.Lock()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers; judging again would start new ones."""
        with self._lock:
            self._stop_pool()

    def judge(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Return one verdict per (gold answer, completion text). Equal pairs are judged once.

        Raises ExpoLiteError if worker processes cannot be started; a judgement that kills its worker is WRONG.
        """
        asked = [(gold, boxed_answer(completion)) for gold, completion in pairs]
        with self._lock:
            verdicts = self._verdicts([(gold, answer) for gold, answer in asked if answer is not None])
        return [Verdict.NO_ANSWER if answer is None else verdicts[gold, answer] for gold, answer in asked]

    def _verdicts(self, pairs: list[Pair]) -> dict[Pair, Verdict]:
        known: dict[Pair, Verdict] = {}
        hard: list[Pair] = []
        for pair in dict.fromkeys(pairs):
            if pair in self._cache:
                self._cache.move_to_end(pair)
                known[pair] = self._cache[pair]
                continue
            settled = verdict(*pair)
            if settled is None:
                hard.append(pair)
            else:
                known[pair] = settled
                self._remember(pair, settled)
        return known | self._ask_workers(hard) if hard else known

    def _remember(self, pair: Pair, verdict: Verdict) -> None:
        self._cache[pair] = verdict
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)

    def judge_completions(
        self, problems: Sequence[Problem], completions: Sequence[Sequence[Completion]]
    ) -> list[list[Judgement]]:
        """A judgement for each of each problem's completions: see `judge.Judge`."""
        pairs = [(p.answer, c.text) for p, of_p in zip(problems, completions, strict=True) for c in of_p]
        verdicts = iter(self.judge(pairs))
        return [[_judgement(completion, next(verdicts)) for completion in of_p] for of_p in completions]

    def _ask_workers(self, pairs: list[Pair]) -> dict[Pair, Verdict]:
        """Judge in worker processes; a worker that dies between two judgements breaks the pool, so try once more."""
        results: dict[Pair, Verdict] = {}
        for _ in range(2):
            try:
                self._judge_hard([pair for pair in pairs if pair not in results], results)
                return results
            except RuntimeError as error:  # pebble's BrokenProcessPool, and what schedule() raises on a broken pool
                logger.warning("The verifier's workers are restarted: %s", error)
                self._stop_pool()
        raise ExpoLiteError(
            "The verifier's worker processes die as they start. Is math-verify installed, and does the main script "
            "keep its code under `if __name__ == '__main__'`?"
        )

    def _judge_hard(self, pairs: list[Pair], results: dict[Pair, Verdict]) -> None:
        """Fill in results, `workers` pairs at a time: the spare worker has nothing to do until another is killed."""
        waiting, running = deque(pairs), dict[futures.Future[bool], Pair]()
        while waiting or running:
            while waiting and len(running) < self._workers:
                pair = waiting.popleft()
                running[self._submit(pair)] = pair
            for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                pair = running.pop(future)
                results[pair] = self._outcome(pair, future)

    def _submit(self, pair: Pair) -> futures.Future[bool]:
        pool = self._pool = self._pool or self._started_pool()
        seconds = self._timeout_seconds  # of the worker's own alarm; pebble's is for systems that have none
        return pool.schedule(judged, args=(*pair, seconds), timeout=seconds + hasattr(signal, "alarm"))

    def _started_pool(self) -> ProcessPool:
        """A pool whose workers are children of a thread that lives as long as it: they die with the thread."""
        context = multiprocessing.get_context("spawn")  # not forked: torch's threads and CUDA do not survive a fork
        pool = ProcessPool(self._workers + 1, initializer=start_worker, context=context)
        started, self._pool_is_over = threading.Event(), threading.Event()

        def keep(over: threading.Event) -> None:
            with suppress(RuntimeError):  # schedule() will say it again
                _ = pool.active  # this is what starts the workers
            started.set()
            over.wait()

        with _sigint_blocked():
            threading.Thread(target=keep, args=(self._pool_is_over,), daemon=True).start()
        started.wait()
        return pool

    def _outcome(self, pair: Pair, future: futures.Future[bool]) -> Verdict:
        """Wait for one judgement. A worker's death may not be the answer's fault: that verdict is not remembered."""
        try:
            outcome = _VERDICTS[future.result()]
        except (futures.TimeoutError, MemoryError):
            outcome = Verdict.TIMEOUT
        except ProcessExpired as error:
            if error.exitcode != -getattr(signal, "SIGALRM", 0):
                logger.warning(
                    "A verifier worker died (exit status %s) on answer %.200r: wrong", error.exitcode, pair[1]
                )
                return Verdict.WRONG
            outcome = Verdict.TIMEOUT
        self._remember(pair, outcome)
        return outcome

    def _stop_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()
            self._pool_is_over.set()


def _judgement(completion: Completion, verdict: Verdict) -> Judgement:
    return Judgement(verdict, reward(attempt_verdict(completion, verdict)))


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread and so, by inheritance, in the pool's threads and in workers from their start.

    pebble makes workers ignore it, but only once they run: one that is still importing would die with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it unblocks SIGINT as it starts, so it must not start inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
