"""Failed groups -> explanations of the known answer that are fit to be trained on.

The policy is told the answer and explains it; what it writes must end by itself, arrive at the right
answer, not betray the hint and hold steps (the filters: `rejection`). It is then paired with the unhinted prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from expo_lite.config.settings import Config
from expo_lite.core.progress import OnProgress, announced, silent
from expo_lite.core.records import Completion, Explanation, Problem, Rejection, TrainingSequence, Verdict
from expo_lite.grading.judge import Judge
from expo_lite.memory.live import LiveUnits
from expo_lite.model.policy import Policy
from expo_lite.model.prompts import Prompts, near_miss
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.training.answer_span import answer_span
from expo_lite.training.derivation import derives
from expo_lite.training.false_steps import false_step
from expo_lite.training.hint_leaks import leaked_phrase
from expo_lite.training.sequence_logprobs import sequence_logprobs


class Explainer:
    """Self-explanations (or the experts' solutions) for the problems of a step."""

    def __init__(
        self,
        config: Config,
        sampler: Sampler,
        prompts: Prompts,
        judge: Judge,
    ) -> None:
        self.config = config.explanation
        self.rollout = config.rollout
        self.seed = config.seed
        self.sampler = sampler
        self.prompts = prompts
        self.judge = judge

    def explain(
        self, problems: Sequence[Problem], step: int, on_progress: OnProgress = silent
    ) -> list[list[Explanation]]:
        """For each problem all its explanations, accepted and rejected; none if the source is "none"."""
        if self.config.source == "self":
            return self._self_explanations(problems, step, on_progress)
        if self.config.source == "expert":
            return [self._expert_solution(problem) for problem in problems]
        return [[] for _ in problems]

    def _self_explanations(
        self, problems: Sequence[Problem], step: int, on_progress: OnProgress
    ) -> list[list[Explanation]]:
        requests = [
            SampleRequest(self._prompt(p), self.config.samples, (self.seed, "explanation", step, p.id))
            for p in problems
        ]
        rollout = self.rollout
        with self.sampler.policy.reference() if self.config.explained_by == "base" else nullcontext():
            written = self.sampler.sample(
                requests, rollout.max_new_tokens, rollout.temperature, on_progress=on_progress
            )
        with announced("verifying", sum(map(len, written)), "completions", on_progress):
            judged = self.judge.judge_completions(problems, written)
        return [
            [self._filtered(problem, completion, said.verdict) for completion, said in zip(of_p, found, strict=True)]
            for problem, of_p, found in zip(problems, written, judged, strict=True)
        ]

    def _prompt(self, problem: Problem) -> list[int]:
        """The hinted prompt; in experiments one with a wrong answer, or none at all. Verdicts go by the true one."""
        if self.config.hint == "none":
            return self.prompts.task(problem)
        return self.prompts.hinted(near_miss(problem) if self.config.hint == "wrong" else problem)

    def _filtered(self, problem: Problem, completion: Completion, verdict: Verdict) -> Explanation:
        rejected = rejection(problem, completion, verdict, self.config.filters)
        span = None if rejected else self._answer_span(completion)
        return Explanation(problem, self.prompts.task(problem), completion, verdict, rejected, span)

    def _answer_span(self, completion: Completion) -> tuple[int, int] | None:
        return answer_span(completion.completion_ids, completion.text, self.prompts.tokenizer)

    def _expert_solution(self, problem: Problem) -> list[Explanation]:
        """The data set's own solution, which needs no filter."""
        if problem.solution is None:
            return []
        unhinted_ids, completion_ids = self.prompts.task(problem), self.prompts.completion(problem.solution)
        completion = Completion(unhinted_ids, completion_ids, [], True, problem.solution)
        span = self._answer_span(completion)
        return [Explanation(problem, unhinted_ids, completion, Verdict.CORRECT, answer_span=span)]

    def select(self, explanations: Sequence[Explanation], step: int) -> list[Explanation]:
        """Which of one problem's explanations are trained on: by `explanation.selection`."""
        accepted = [e for e in explanations if e.rejected is None]
        if len(accepted) <= 1 or self.config.selection == "all":
            return accepted
        if self.config.selection == "random":
            return [random.Random(f"{self.seed}/{step}/{accepted[0].problem.id}").choice(accepted)]
        logprobs = unhinted_logprobs(accepted, self.sampler.policy, self.sampler.units)
        likeliest = self.sampler.read(torch.stack([own.mean() for own in logprobs]).argmax())
        return [accepted[self.sampler.ranks.of_first(likeliest)]]


def rejection(problem: Problem, completion: Completion, verdict: Verdict, filters: frozenset[str]) -> Rejection | None:
    """The first filter that turns an explanation of a problem's answer down, or None."""
    if "complete" in filters and not completion.finished:
        return "incomplete"
    if "verified" in filters and verdict is not Verdict.CORRECT:
        return "unverified"
    if "no_leak" in filters and leaked_phrase(completion.text, problem) is not None:
        return "leak"
    if "explains" in filters and not derives(completion.text, problem):
        return "bare_answer"
    if "true_steps" in filters and false_step(completion.text) is not None:
        return "false_step"
    return None


def unhinted_logprobs(explanations: Sequence[Explanation], policy: Policy, units: LiveUnits) -> list[Tensor]:
    """log pi(token | unhinted prompt, tokens before) of each explanation's tokens (T,), at temperature 1.

    Their mean says how natural the policy finds an explanation. Raises MemoryBudgetError where one does not fit.
    """
    sequences = [TrainingSequence(e.unhinted_ids, e.completion.completion_ids) for e in explanations]
    return sequence_logprobs(sequences, policy, units)
