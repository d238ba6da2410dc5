"""How good a tiny base is: what it solves alone, and what it explains when told the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from expo_lite.config.settings import Config
from expo_lite.core.records import Completion, Explanation, Problem, Verdict
from expo_lite.core.tables import TextTable
from expo_lite.grading.intervals import pass_at_k
from expo_lite.grading.judge import attempt_verdicts
from expo_lite.model.prompts import near_miss
from expo_lite.model.sampler import SampleRequest
from expo_lite.problems import tiny_world
from expo_lite.runs.assemble import Assembly, assemble, settle
from expo_lite.training.explainer import unhinted_logprobs
from expo_lite.training.hint_leaks import leaked_phrase

PROBLEMS, SAMPLES = 128, 4  # per level
NLL_PROBLEMS = 32
PLANTED = (tiny_world.LEAK_FIRST, tiny_world.LEAK_MIDDLE, tiny_world.LEAK_LAST)


def quality_table(config: Config) -> tuple[TextTable, list[dict[str, Any]]]:
    """A table for people, and its rows as plain values, one per level: shares in [0, 1], likelihoods in nats."""
    with assemble(settle(config)) as parts, parts.policy.reference():
        rows = [level_quality(parts, config, level) for level in tiny_world.LEVELS]
    lines = []
    for name in list(rows[0])[1:]:
        form = "{:.2f}" if name.endswith("nats") else "{:.1%}"
        lines.append([name.replace("_", " "), *("-" if r[name] is None else form.format(r[name]) for r in rows)])
    title = f"The base on held-out problems ({PROBLEMS} a level, {SAMPLES} samples each)"
    return TextTable(title, ["", *(f"L{row['level']}" for row in rows)], lines, words=(0,)), rows


def level_quality(parts: Assembly, config: Config, level: int) -> dict[str, Any]:
    """The numbers of one level."""
    problems = tiny_world.problems("test", level, PROBLEMS)
    wrong = [near_miss(problem) for problem in problems]
    alone = sampled(parts, config, problems, parts.prompts.task)
    told = sampled(parts, config, problems, parts.prompts.hinted)
    misled = sampled(parts, config, wrong, parts.prompts.hinted)
    return {
        "level": level,
        "unhinted_pass_at_1": share(parts, problems, alone),
        "unhinted_pass_at_4": float(pass_at_k(counts(parts, problems, alone), SAMPLES, 4).mean()),
        "hinted_answer_right": share(parts, problems, told),
        "hinted_every_step_right": steps_share(problems, told),
        "wrong_hint_followed": share(parts, wrong, misled),
        "wrong_hint_true_answer": share(parts, problems, misled),
        "wrong_hint_every_step_right": steps_share(problems, misled),
        **leak_filter_quality([c.text for completions in told for c in completions]),
        "self_explanation_nll_nats": nll(parts, problems, [completions[0] for completions in told]),
        "expert_solution_nll_nats": nll(parts, problems, [expert(parts, problem) for problem in problems]),
    }


def sampled(
    parts: Assembly, config: Config, problems: Sequence[Problem], prompt: Callable[[Problem], list[int]]
) -> list[list[Completion]]:
    """Completions under a prompt, at the training temperature."""
    requests = [SampleRequest(prompt(p), SAMPLES, (config.seed, "quality", p.id)) for p in problems]
    return parts.sampler.sample(requests, config.rollout.max_new_tokens, config.rollout.temperature)


def counts(parts: Assembly, problems: Sequence[Problem], written: Sequence[Sequence[Completion]]) -> list[int]:
    """Right answers by problem."""
    return [of_p.count(Verdict.CORRECT) for of_p in attempt_verdicts(parts.judge, problems, written)]


def share(parts: Assembly, problems: Sequence[Problem], written: Sequence[Sequence[Completion]]) -> float:
    """Share of completions with the right answer."""
    return sum(counts(parts, problems, written)) / (len(problems) * SAMPLES)


def steps_share(problems: Sequence[Problem], written: Sequence[Sequence[Completion]]) -> float:
    """Share of completions that are complete derivations."""
    right = [
        tiny_world.every_step_right(p.question, c.text) for p, of_p in zip(problems, written, strict=True) for c in of_p
    ]
    return sum(right) / len(right)


def leak_filter_quality(texts: Sequence[str]) -> dict[str, float | None]:
    """Share of explanations with a planted leak, and precision and recall of the leak filter on them."""
    planted = [any(phrase in text for phrase in PLANTED) for text in texts]
    caught = [leaked_phrase(text) is not None for text in texts]
    both = sum(p and c for p, c in zip(planted, caught, strict=True))
    return {
        "leaking_share": sum(planted) / len(texts),
        "leak_filter_precision": both / sum(caught) if any(caught) else None,
        "leak_filter_recall": both / sum(planted) if any(planted) else None,
    }


def expert(parts: Assembly, problem: Problem) -> Completion:
    """The expert's solution as if it had been written by the model."""
    text = problem.solution or ""
    return Completion(parts.prompts.task(problem), parts.prompts.completion(text), [], True, text)


def nll(parts: Assembly, problems: Sequence[Problem], written: Sequence[Completion]) -> float:
    """Mean negative log-likelihood under the unhinted prompt, of the first NLL_PROBLEMS."""
    pairs = list(zip(problems, written, strict=True))[:NLL_PROBLEMS]
    explanations = [Explanation(p, parts.prompts.task(p), c, Verdict.CORRECT) for p, c in pairs]
    logprobs = unhinted_logprobs(explanations, parts.policy, parts.sampler.units)
    return -sum(float(own.mean()) for own in logprobs) / len(logprobs)
