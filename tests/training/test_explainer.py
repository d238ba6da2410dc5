"""Which explanations are accepted, which of those are used, and under which prompt they are trained on."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from support.tiny_models import CUT, ScriptedSampler, live_units, tiny_config, tiny_policy, written

from expo_lite.core.records import Explanation, Problem, Verdict
from expo_lite.grading.verifier import Verifier
from expo_lite.model.policy import Policy
from expo_lite.model.prompts import Prompts, near_miss
from expo_lite.model.sampler import Sampler
from expo_lite.problems import tiny_world
from expo_lite.training.explainer import Explainer, rejection, unhinted_logprobs
from expo_lite.training.sequences import training_sequences

PROBLEM = tiny_world.problem((23, 45))
ANSWER = "The answer is $\\boxed{68}$."
GOOD = "23+45=68\n" + ANSWER
INCOMPLETE = "23+45=68\n23+45=68\n" + ANSWER + CUT
UNVERIFIED = "23+45=68\nThe answer is $\\boxed{69}$."
LEAK = "As we were told, the answer is 68.\n" + GOOD
FALSE_STEP = "23+44=66\n66+45=68\n" + ANSWER
FILTERS = {
    "complete": INCOMPLETE,
    "verified": UNVERIFIED,
    "no_leak": LEAK,
    "explains": ANSWER,
    "true_steps": FALSE_STEP,
}
REASONS = {
    GOOD: None, INCOMPLETE: "incomplete", UNVERIFIED: "unverified", LEAK: "leak", ANSWER: "bare_answer",
    FALSE_STEP: "false_step",
}  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def explainer_of(policy: Policy, texts: list[str], problem: Problem = PROBLEM, **settings: Any) -> Explainer:
    config = tiny_config(explanation__samples=len(texts), **settings)
    sampler: Any = ScriptedSampler(policy, {("explanation", problem.id): texts})
    return Explainer(config, sampler, Prompts(policy.tokenizer, config.prompt), Verifier())


def trained_texts(policy: Policy, explainer: Explainer, problem: Problem = PROBLEM) -> list[str]:
    """The explanations in the training sequences of a step on `problem`."""
    chosen = [explainer.select(of_problem, 0) for of_problem in explainer.explain([problem], 0)]
    sequences = training_sequences([], chosen, tiny_config())
    assert all(s.likelihood_weight > 0 and s.policy_weight == 0 for s in sequences)
    return [policy.tokenizer.decode(s.completion_ids, skip_special_tokens=True) for s in sequences]


def test_each_explanation_is_turned_down_for_its_reason(policy: Policy) -> None:
    explainer = explainer_of(policy, list(REASONS), explanation__filters=set(FILTERS))
    (explanations,) = explainer.explain([PROBLEM], 0)
    assert [e.rejected for e in explanations] == list(REASONS.values())


@pytest.mark.parametrize("off", [None, *FILTERS])
def test_turning_a_filter_off_lets_exactly_those_into_the_training_data(policy: Policy, off: str | None) -> None:
    explainer = explainer_of(
        policy, list(REASONS), explanation__filters=set(FILTERS) - {off}, explanation__selection="all"
    )
    expected = [GOOD] + ([FILTERS[off].removesuffix(CUT)] if off else [])
    assert trained_texts(policy, explainer) == expected


def test_without_filters_everything_is_trained_on(policy: Policy) -> None:
    explainer = explainer_of(policy, list(REASONS), explanation__filters=[], explanation__selection="all")
    assert trained_texts(policy, explainer) == [text.removesuffix(CUT) for text in REASONS]


def test_the_first_failing_filter_names_the_reason(policy: Policy) -> None:
    everything_wrong = written(policy.tokenizer, [5], "As the answer is given: 68.\n" + CUT)
    filters = list(FILTERS)[:4]
    reasons = [rejection(PROBLEM, everything_wrong, Verdict.NO_ANSWER, frozenset(filters[i:])) for i in range(5)]
    assert reasons == ["incomplete", "unverified", "leak", "bare_answer", None]


def test_false_steps_are_let_through_unless_they_are_asked_for(policy: Policy) -> None:
    assert trained_texts(policy, explainer_of(policy, [FALSE_STEP])) == [FALSE_STEP]


@pytest.mark.parametrize("verdict", [Verdict.WRONG, Verdict.NO_ANSWER, Verdict.TIMEOUT])
def test_only_a_correct_verdict_verifies(policy: Policy, verdict: Verdict) -> None:
    assert rejection(PROBLEM, written(policy.tokenizer, [5], GOOD), verdict, frozenset({"verified"})) == "unverified"


def test_explanations_are_sampled_with_the_hint_and_paired_with_the_prompt_without(policy: Policy) -> None:
    explainer = explainer_of(policy, [GOOD, LEAK])
    (explanations,) = explainer.explain([PROBLEM], 3)
    (request,) = explainer.sampler.requests
    assert request.prompt_ids == explainer.prompts.hinted(PROBLEM)
    assert request.stream == (0, "explanation", 3, PROBLEM.id)
    assert request.count == 2
    assert all(e.unhinted_ids == explainer.prompts.task(PROBLEM) for e in explanations)
    assert all(e.completion.prompt_ids == request.prompt_ids for e in explanations)


TEXTS = [GOOD, "1+1=2\n23+45=68\n" + ANSWER, "23+45=68. $\\boxed{68}$."]


@pytest.mark.parametrize("order", list(permutations(TEXTS)))
def test_likeliest_has_the_highest_mean_log_probability_under_the_unhinted_prompt(order: tuple[str, ...]) -> None:
    """By hand from all logits, at temperature 1. It is not the one with the highest sum, which is the shortest."""
    policy = tiny_policy(seed=3)
    explainer = explainer_of(policy, list(order), explanation__selection="likeliest")
    task = explainer.prompts.task(PROBLEM)
    means, sums = {}, {}
    for text, e in zip(order, explainer.explain([PROBLEM], 0)[0], strict=True):
        ids = e.completion.completion_ids
        logits = policy.causal_lm(input_ids=torch.tensor([task + ids])).logits[0, len(task) - 1 : -1]
        logprobs = torch.log_softmax(logits, 1)[range(len(ids)), ids]
        means[text], sums[text] = logprobs.mean().item(), logprobs.sum().item()
        (own,) = unhinted_logprobs([e], policy, live_units(chunk=4))
        assert own.mean().item() == pytest.approx(means[text], rel=1e-4)
    likeliest = max(order, key=lambda text: means[text])
    assert likeliest != max(order, key=lambda text: sums[text])
    assert trained_texts(policy, explainer) == [likeliest]


def test_a_rejected_explanation_is_never_selected(policy: Policy) -> None:
    for selection in ("likeliest", "random", "all"):
        for step in range(10):
            explainer = explainer_of(policy, [LEAK, GOOD, UNVERIFIED], explanation__selection=selection)
            (explanations,) = explainer.explain([PROBLEM], step)
            assert [e.completion.text for e in explainer.select(explanations, step)] == [GOOD]


def test_random_depends_on_seed_step_and_problem_alone(policy: Policy) -> None:
    other = tiny_world.problem((11, 57))

    def choices(seed: int, problem: Problem) -> list[str]:
        explainer = explainer_of(policy, TEXTS, problem, seed=seed, explanation__selection="random")
        task = explainer.prompts.task(problem)
        candidates = [Explanation(problem, task, written(policy.tokenizer, task, t), Verdict.CORRECT) for t in TEXTS]
        return [explainer.select(candidates, step)[0].completion.text for step in range(40)]

    first = choices(0, PROBLEM)
    assert set(first) == set(TEXTS)  # differs by step, and every one has its turn
    assert choices(0, PROBLEM) == first
    assert choices(1, PROBLEM) != first
    assert choices(0, other) != first


def test_expert_solutions_are_trained_as_they_are(policy: Policy) -> None:
    """A problem without one has none."""
    config = tiny_config(explanation__source="expert")
    sampler: Any = ScriptedSampler(policy, {})
    explainer = Explainer(config, sampler, Prompts(policy.tokenizer, config.prompt), Verifier())
    bare = Problem("bare", "What is 1+1?", "2")
    (of_problem, of_bare) = explainer.explain([PROBLEM, bare], 0)
    assert of_bare == []
    assert [e.completion.text for e in explainer.select(of_problem, 0)] == [PROBLEM.solution]
    (sequence,) = training_sequences([], [of_problem, of_bare], config)
    assert sequence.prompt_ids == explainer.prompts.task(PROBLEM)
    ids = sequence.completion_ids
    assert policy.tokenizer.decode(ids[:-1]) == PROBLEM.solution
    assert ids[-1] == policy.tokenizer.eos_token_id
    assert sequence.likelihood_weight == pytest.approx(0.04 / len(ids))
    assert sampler.requests == []


def test_no_source_no_explanations(policy: Policy) -> None:
    explainer = explainer_of(policy, [GOOD], explanation__source="none")
    assert explainer.explain([PROBLEM, PROBLEM], 0) == [[], []]
    assert explainer.sampler.requests == []


@pytest.mark.parametrize(("hint", "told"), [("answer", "68"), ("wrong", "78"), ("none", None)])
def test_what_is_told_is_a_setting_and_the_verdict_is_by_the_true_answer(
    policy: Policy, hint: str, told: str | None
) -> None:
    explainer = explainer_of(policy, [GOOD, GOOD.replace("68", "78")], explanation__hint=hint)
    (written,) = explainer.explain([PROBLEM], 1)
    (request,) = explainer.sampler.requests  # type: ignore[attr-defined]
    prompt = policy.tokenizer.decode(request.prompt_ids)
    assert [e.rejected for e in written] == [None, "unverified"]
    assert (f"The correct answer is {told}." in prompt) == (told is not None)
    assert ("correct answer" in prompt) == (told is not None)


@pytest.mark.parametrize("dense", [False, True])
def test_who_explains_is_a_setting(policy: Policy, dense: bool) -> None:
    """With "base", what the model would have written before any training; the adapter is back afterwards."""

    def texts(by: str, policy: Policy) -> list[str]:
        config = tiny_config(explanation__explained_by=by, explanation__filters=[])
        prompts = Prompts(policy.tokenizer, config.prompt)
        explainer = Explainer(config, Sampler(policy, live_units(), dense), prompts, Verifier())
        return [e.completion.text for e in explainer.explain([PROBLEM], 0)[0]]

    untrained = tiny_policy()
    for name, parameter in untrained.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    before = texts("policy", untrained)
    assert texts("base", policy) == before != texts("policy", policy)


@pytest.mark.parametrize(("answer", "wrong"), [("68", "78"), ("-5", "5"), ("\\frac{1}{2}", "\\frac{1}{2} + 1")])
def test_a_near_miss_is_wrong(answer: str, wrong: str) -> None:
    assert near_miss(Problem("p", "q", answer)).answer == wrong
