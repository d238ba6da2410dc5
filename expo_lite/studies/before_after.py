"""One question, three times: tried by the base, explained by a model that is told the answer, tried by the policy.

All three come from one set of weights, side by side: each row has the adapter on or off. The base explains, unless the
trained policy is asked to: what a training begins with is the base's own explanations. The explanation is then read
again under the task prompt, to see how likely each of its tokens is to a model that was not told the answer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from expo_lite.config.dotted import replaced
from expo_lite.config.model_files import TINY
from expo_lite.config.settings import Config
from expo_lite.core.boxes import boxed_answer
from expo_lite.core.errors import CheckpointError, ConfigError, DataError
from expo_lite.core.records import Completion, Problem, TrainingSequence, Verdict
from expo_lite.grading.judge import Judge, attempt_verdicts
from expo_lite.grading.reward_function import Function
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.model.adapter_weights import DAMAGED, load_adapter
from expo_lite.model.prompts import Prompts
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.problems.tiny_world import outside_of_base
from expo_lite.runs.assemble import judge_of, open_model, settle
from expo_lite.studies.comparison import (
    AFTER,
    BASE,
    BEFORE,
    EXPLANATION,
    MODELS,
    TRAINED,
    Attempt,
    Comparison,
    Likelihoods,
)
from expo_lite.training.explainer import rejection
from expo_lite.training.sequence_logprobs import sequence_logprobs

CONTEXT = 8  # tokens decoded with each token: what a token spells can depend on those just before it

Listener = Callable[[str, list[int]], None]
"""Told of each token as it is written: the role, and the role's token ids so far. It may raise to stop."""


class Comparer:
    """Owns a policy and compares its two sides. Not for several threads at once."""

    def __init__(self, config: Config, sampler: Sampler, prompts: Prompts, judge: Judge) -> None:
        self.config = config
        self.sampler = sampler
        self.policy = sampler.policy
        self.prompts = prompts
        self.judge = judge
        self._loaded: tuple[Path, int] | None = None

    def close(self) -> None:
        """End the judge's workers, if any."""
        self.judge.close()

    def use_adapter(self, folder: Path) -> None:
        """Load a saved adapter, unless it is the one in use. Raises CheckpointError if it does not fit."""
        try:
            version = (folder, (folder / WEIGHTS).stat().st_mtime_ns)
            if version != self._loaded:
                self._loaded = None
                load_adapter(folder, self.policy.model)
                self._loaded = version
        except DAMAGED as error:
            raise CheckpointError(f"The adapter in {folder} cannot be used with this model ({error}).") from error

    def fits(self, problem: Problem) -> bool:
        """Whether the problem's prompts are short enough."""
        return self._longest_prompt(problem) <= self.config.rollout.max_prompt_tokens

    def _longest_prompt(self, problem: Problem) -> int:
        return max(len(self.prompts.task(problem)), len(self.prompts.hinted(problem)))

    def reads_all_of(self, text: str) -> bool:
        """Whether the tokenizer knows every character (that of the shipped model knows few)."""
        ids = self.policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        return "".join(self.text(ids).split()) == "".join(text.split())  # type: ignore[arg-type]

    def text(self, ids: list[int]) -> str:
        """What token ids spell, without special tokens."""
        return str(self.policy.tokenizer.decode(ids, skip_special_tokens=True))

    def compare(
        self,
        problem: Problem,
        trained: bool,
        seed: int = 0,
        greedy: bool = False,
        listen: Listener | None = None,
        explained_by: str = BASE,
    ) -> Comparison:
        """Write all columns at once; `trained` says whether the adapter in use is worth comparing.

        `explained_by` is BASE or TRAINED; without an adapter it is the base. The problem's answer may be empty:
        unknown. Raises DataError if the prompt is too long.
        """
        if not self.fits(problem):
            raise DataError(
                f"The question is too long for this model: {self._longest_prompt(problem)} tokens with its prompt, and "
                f"at most {self.config.rollout.max_prompt_tokens} are read (rollout.max_prompt_tokens)."
            )
        explained_by = explained_by if trained else BASE
        requests = self._requests(problem, trained, seed, explained_by)
        clock = _Clock(listen)
        rollout = self.config.rollout
        written = self.sampler.sample(requests, rollout.max_new_tokens, rollout.temperature, greedy, clock)
        attempts = self._judged(
            problem, {str(r.stream[1]): c for r, (c,) in zip(requests, written, strict=True)}, clock
        )
        note = outside_of_base(problem.question) if self.config.policy.model == TINY else None
        if EXPLANATION not in attempts:
            return Comparison(problem, attempts, note=note)
        rejected, likelihoods = self._explained(problem, attempts[EXPLANATION], trained)
        return Comparison(problem, attempts, rejected, likelihoods, explained_by, note)

    def _requests(self, problem: Problem, trained: bool, seed: int, explained_by: str) -> list[SampleRequest]:
        """One completion per role; the streams' second name is the role."""
        task, stream = self.prompts.task(problem), (0, problem.question)
        requests = [SampleRequest(task, 1, (seed, BEFORE, *stream), adapter=False)]
        if problem.answer:
            hinted = self.prompts.hinted(problem)
            requests.append(SampleRequest(hinted, 1, (seed, EXPLANATION, *stream), adapter=explained_by == TRAINED))
        if trained:
            requests.append(SampleRequest(task, 1, (seed, AFTER, *stream)))
        return requests

    def _judged(self, problem: Problem, written: dict[str, Completion], clock: _Clock) -> dict[str, Attempt]:
        verdicts: list[Verdict | None] = [None] * len(written)
        if problem.answer:
            judged = attempt_verdicts(self.judge, [problem] * len(written), [[c] for c in written.values()])
            verdicts = [verdict for (verdict,) in judged]
        return {
            role: Attempt(completion, boxed_answer(completion.text), verdict, clock.seconds[role])
            for (role, completion), verdict in zip(written.items(), verdicts, strict=True)
        }

    def _explained(self, problem: Problem, attempt: Attempt, trained: bool) -> tuple[str | None, Likelihoods]:
        """Why training would turn the explanation down, if it would, and its likelihood without the hint."""
        assert attempt.verdict is not None
        rejected = rejection(problem, attempt.completion, attempt.verdict, self.config.explanation.filters)
        unhinted = TrainingSequence(self.prompts.task(problem), attempt.completion.completion_ids)
        with self.policy.generating():
            with self.policy.reference():
                before = self._logprobs(unhinted)
            after = self._logprobs(unhinted) if trained else None
        return rejected, Likelihoods(self._pieces(attempt.completion.completion_ids), before, after)

    def _logprobs(self, sequence: TrainingSequence) -> list[float]:
        (logprobs,) = sequence_logprobs([sequence], self.policy, self.sampler.units)
        return logprobs.tolist()

    def _pieces(self, ids: list[int]) -> list[str]:
        """What each token adds to the text; one that ends within a character adds it to the next."""
        pieces, shown = [], 0
        for end in range(1, len(ids) + 1):
            start = max(0, end - CONTEXT)
            before, after = self.text(ids[start : max(start, shown)]), self.text(ids[start:end])
            whole = not after.endswith("\N{REPLACEMENT CHARACTER}") or end == len(ids)
            pieces.append(after[len(before) :] if whole else "")
            shown = end if whole else shown
        return pieces


class _Clock:
    """Listens to the sampler: gathers each role's tokens and when the last one came."""

    def __init__(self, listen: Listener | None) -> None:
        self.listen = listen
        self.start = time.perf_counter()
        self.ids: defaultdict[str, list[int]] = defaultdict(list)
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __call__(self, stream: tuple[object, ...], position: int, token: int) -> None:
        role = str(stream[1])
        self.ids[role][position:] = [token]  # an out-of-memory starts a row again from its first token
        self.seconds[role] = time.perf_counter() - self.start
        if self.listen is not None:
            self.listen(role, self.ids[role])


def checked_explainer(name: object, trained: bool) -> str:
    """Who is to write the explanation, BASE or TRAINED. Raises ConfigError."""
    if name not in MODELS:
        raise ConfigError(f"explained_by: should be {' or '.join(MODELS)} (got {str(name)[:80]!r})")
    if name == TRAINED and not trained:
        raise ConfigError("explained_by: there is no trained model yet, only the base can explain")
    return str(name)


def assemble_comparer(config: Config, function: Function | None = None) -> Comparer:
    """What comparing needs of a run: the model, without data and optimizer. Raises ConfigError.

    Always through transformers: under Unsloth's fused kernels the adapter cannot be on in some rows and off in others.
    """
    config = replaced(config, {"policy.backend": "transformers"})
    settled = settle(config, function)
    model = open_model(settled)
    return Comparer(config, model.sampler, model.prompts, judge_of(config, model.prompts, settled.function))
