"""One step on scripted completions: what is sorted where, what is explained, and what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.naive_step import logprobs_of
from support.tiny_models import (
    CUT,
    GradientRecorder,
    ScriptedSampler,
    adapter_vector,
    tiny_config,
    tiny_policy,
    tiny_trainer,
)

from expo_lite.core.errors import DivergedError
from expo_lite.core.records import Completion, Problem, Rollout, RolloutGroup, TrainingSequence, Verdict
from expo_lite.model.policy import Policy
from expo_lite.problems import tiny_world
from expo_lite.training.sequences import rollout_sequences
from expo_lite.training.step import StepReport, Trainer

FAILED, MIXED, SOLVED = (tiny_world.problem(operands) for operands in ((23, 45), (10, 20, 30), (31, 12)))
PROBLEMS = [FAILED, MIXED, SOLVED]


def boxed(answer: object) -> str:
    return f"The answer is $\\boxed{{{answer}}}$."


def right(problem: Problem) -> str:
    return boxed(problem.answer)


SCRIPT = {
    ("rollout", FAILED.id): [boxed(1), "23+45=68\n" + CUT],
    ("rollout", MIXED.id): ["10+20=30\n30+30=60\n" + right(MIXED), boxed(2)],
    ("rollout", SOLVED.id): [right(SOLVED), "31+12=43\n" + right(SOLVED)],
    **{("explanation", p.id): [boxed(3), "1+1=2\n" + right(p)] for p in PROBLEMS},
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


class WatchedTrainer:
    """A trainer on the script that keeps the sequences which it trains on."""

    def __init__(self, policy: Policy, script: Any = SCRIPT, learning_rate: float = 0.0, **settings: Any) -> None:
        self.sampler = ScriptedSampler(policy, script)
        self.recorder = GradientRecorder(policy, learning_rate)
        config = tiny_config(explanation__samples=2, **settings)
        self.trainer: Trainer = tiny_trainer(config, policy, self.sampler, self.recorder)
        self.sequences: list[TrainingSequence] = []
        update: Callable[[Any], dict[str, float]] = self.trainer.updater.update

        def watched(sequences: list[TrainingSequence], *_: Any) -> dict[str, float]:
            self.sequences = sequences
            return update(sequences)

        self.trainer.updater.update = watched  # type: ignore[method-assign]

    def step(self, problems: list[Problem] = PROBLEMS) -> StepReport:
        return self.trainer.step(5, problems)

    def trained_rollouts(self) -> list[str]:
        return self.texts(lambda s: s.policy_weight > 0)

    def trained_explanations(self) -> list[str]:
        return self.texts(lambda s: s.likelihood_weight > 0)

    def texts(self, which: Callable[[TrainingSequence], bool]) -> list[str]:
        tokenizer = self.trainer.prompts.tokenizer
        return [tokenizer.decode(s.completion_ids, skip_special_tokens=True) for s in self.sequences if which(s)]

    def explained(self) -> set[str]:
        return {str(r.stream[-1]) for r in self.sampler.requests if r.stream[1] == "explanation"}


def test_groups_are_sorted_and_rewarded(policy: Policy) -> None:
    report = WatchedTrainer(policy).step()
    assert [group.kind for group in report.groups] == ["failed", "mixed", "solved"]
    assert [[r.reward for r in group.rollouts] for group in report.groups] == [[0, 0], [1, 0], [1, 1]]
    assert [group.has_signal for group in report.groups] == [False, True, False]
    assert [report.metrics[f"{kind}_groups"] for kind in ("failed", "mixed", "solved")] == [1, 1, 1]
    assert report.metrics["groups_with_signal"] == report.metrics["rescued_groups"] == 1
    assert report.metrics["reward_mean"] == 0.5
    assert report.metrics["truncated_share"] == report.metrics["no_answer_share"] == pytest.approx(1 / 6)
    assert (report.metrics["explanations_written"], report.metrics["explanations_accepted"]) == (2, 1)
    assert report.metrics["explanations_rejected_unverified"] == 1


@pytest.mark.parametrize(("gate", "explained"), [("failed", [FAILED]), ("every", PROBLEMS)])
def test_the_gate_says_which_problems_are_explained(policy: Policy, gate: str, explained: list[Problem]) -> None:
    watched = WatchedTrainer(policy, explanation__gate=gate)
    watched.step()
    assert watched.explained() == {p.id for p in explained}
    assert watched.trained_explanations() == ["1+1=2\n" + right(p) for p in explained]


@pytest.mark.parametrize("gate", ["failed", "every"])
def test_experts_go_through_the_same_gate(policy: Policy, gate: str) -> None:
    watched = WatchedTrainer(policy, explanation__gate=gate, explanation__source="expert")
    watched.step()
    assert watched.explained() == set()  # nothing is sampled
    assert watched.trained_explanations() == [p.solution for p in ([FAILED] if gate == "failed" else PROBLEMS)]


def test_without_explanations_it_is_plain_grpo(policy: Policy) -> None:
    watched = WatchedTrainer(policy, explanation__source="none")
    watched.step()
    assert watched.explained() == set()
    assert watched.trained_explanations() == []
    assert watched.trained_rollouts() == SCRIPT["rollout", MIXED.id]


def test_groups_without_signal_are_not_in_the_training_pass(policy: Policy) -> None:
    watched = WatchedTrainer(policy)
    watched.step()
    assert watched.trained_rollouts() == SCRIPT["rollout", MIXED.id]


def test_with_a_kl_penalty_every_rollout_is(policy: Policy) -> None:
    watched = WatchedTrainer(policy, kl__coef=0.1)
    report = watched.step()
    assert len(watched.trained_rollouts()) == 6
    assert "kl_nats" in report.metrics


def test_training_is_under_the_unhinted_prompt(policy: Policy) -> None:
    """The hinted prompt is asked for explanations, and stands in no sequence that is trained on."""
    watched = WatchedTrainer(policy, explanation__gate="every")
    watched.step()
    asked = [policy.tokenizer.decode(r.prompt_ids) for r in watched.sampler.requests if r.stream[1] == "explanation"]
    assert len(asked) == 3 and all(
        f"The correct answer is {p.answer}" in t for p, t in zip(PROBLEMS, asked, strict=True)
    )
    hint = policy.tokenizer.convert_tokens_to_ids(" The correct answer is ")
    tasks = [watched.trainer.prompts.task(p) for p in PROBLEMS]
    for sequence in watched.sequences:
        assert sequence.prompt_ids in tasks
        assert hint not in sequence.prompt_ids + sequence.completion_ids


def test_a_truncated_rollout_counts_as_wrong_even_if_its_answer_is_right(policy: Policy) -> None:
    script = {**SCRIPT, ("rollout", MIXED.id): [right(MIXED) + CUT, right(MIXED)]}
    group = WatchedTrainer(policy, script).step().groups[1]
    assert [r.verdict for r in group.rollouts] == [Verdict.WRONG, Verdict.CORRECT]
    assert group.advantages[0] == -group.advantages[1] < 0


@pytest.mark.parametrize("mask", [False, True])
def test_mask_truncated(policy: Policy, mask: bool) -> None:
    """It leaves cut-off rollouts out; the others keep their advantage and their weight."""
    script = {**SCRIPT, ("rollout", MIXED.id): ["10+20=30\n" + CUT, right(MIXED)]}
    watched = WatchedTrainer(policy, script, objective__mask_truncated=mask)
    watched.step()
    assert watched.trained_rollouts() == (["10+20=30\n"] * (not mask)) + [right(MIXED)]
    kept = next(s for s in watched.sequences if s.advantage > 0)
    assert kept.policy_weight == pytest.approx(1 / (6 * len(kept.completion_ids)))


def test_dapo_does_not_count_masked_tokens() -> None:
    """Two finished rollouts of 20 tokens beside six masked ones of 1,024: a token weighs 1/40, as in TRL."""
    prompt = [1, 2]
    finished = [Completion(prompt, [5] * 20, [-1.0] * 20, True, "") for _ in range(2)]
    cut_off = [Completion(prompt, [5] * 1024, [-1.0] * 1024, False, "") for _ in range(6)]
    verdicts = [Verdict.CORRECT] + 7 * [Verdict.WRONG]
    rewards = [1.0] + 7 * [0.0]
    rollouts = [Rollout(c, v, r) for c, v, r in zip([*finished, *cut_off], verdicts, rewards, strict=True)]
    group = RolloutGroup(MIXED, rollouts, [1.0] + 7 * [-1.0])
    for loss, expected in (("dapo", 1 / 40), ("grpo", 1 / (8 * 20))):
        config = tiny_config(objective__loss=loss, objective__mask_truncated=True)
        assert [s.policy_weight for s in rollout_sequences([group], config)] == [pytest.approx(expected)] * 2
    whole = rollout_sequences([group], tiny_config(objective__loss="dapo"))
    assert [s.policy_weight for s in whole] == [pytest.approx(1 / (40 + 6 * 1024))] * 8


def test_a_step_without_signal_makes_no_update(policy: Policy) -> None:
    """Not even Adam's momentum or weight decay may move the adapter."""
    watched = WatchedTrainer(policy, explanation__source="none")
    optimizer = torch.optim.AdamW(policy.trainable, lr=0.1, weight_decay=0.1)
    for parameter in policy.trainable:
        optimizer.state[parameter] = {k: torch.ones_like(parameter) for k in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter]["step"] = torch.tensor(3.0)
    watched.trainer.updater.optimizer = optimizer
    before = adapter_vector(policy)
    report = watched.step([FAILED, SOLVED])
    assert torch.equal(adapter_vector(policy), before)
    assert report.metrics["updates"] == 0
    assert "gradient_norm" not in report.metrics and "entropy_nats" not in report.metrics


def test_a_failed_step_with_an_explanation_updates() -> None:
    """The point of ExPO: where plain GRPO has nothing, the right explanation becomes likelier."""
    policy = tiny_policy()
    watched = WatchedTrainer(policy, learning_rate=0.5, explanation__weight=1.0)
    first = watched.step([FAILED])
    second = watched.step([FAILED])
    assert first.metrics["updates"] == 1
    assert second.metrics["explanation_nll_nats"] < first.metrics["explanation_nll_nats"]


def test_gradients_are_clipped_and_forgotten() -> None:
    policy = tiny_policy()
    watched = WatchedTrainer(policy, optimizer__max_grad_norm=1e-3)
    report = watched.step()
    watched.step()
    first, second = watched.recorder.gradients
    assert report.metrics["gradient_norm"] > 1e-3
    assert first.norm().item() == pytest.approx(1e-3, rel=1e-2)
    assert torch.equal(first, second)  # nothing was left over from the first step


def test_divergence_is_an_error_and_leaves_the_adapter_as_it_was() -> None:
    policy = tiny_policy()
    watched = WatchedTrainer(policy, learning_rate=0.1)
    before = adapter_vector(policy)
    handle = policy.trainable[0].register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DivergedError, match=r"nan.*learning_rate"):
        watched.step()
    handle.remove()
    assert torch.equal(adapter_vector(policy), before)


def test_every_step_moves_the_schedule(policy: Policy) -> None:
    """With or without an update, so that the learning rate is a function of the step; and torch does not complain."""
    watched = WatchedTrainer(policy, explanation__source="none")
    for problems in ([FAILED], PROBLEMS):
        before = watched.trainer.updater.scheduler.last_epoch
        watched.step(problems)
        assert watched.trainer.updater.scheduler.last_epoch == before + 1


def test_streams_name_seed_purpose_step_and_problem(policy: Policy) -> None:
    watched = WatchedTrainer(policy, seed=9)
    watched.step()
    assert [r.stream for r in watched.sampler.requests] == [
        *((9, "rollout", 5, p.id) for p in PROBLEMS),
        (9, "explanation", 5, FAILED.id),
    ]


def test_sampler_trainer_gap_is_the_mean_difference_of_log_probabilities(policy: Policy) -> None:
    """The scripted sampler claims -1 for every token; with a perfect sampler the gap is 0."""
    report = WatchedTrainer(policy, explanation__source="none").step()
    watched = WatchedTrainer(policy, explanation__source="none")
    config = watched.trainer.config
    values = []
    for rollout in report.groups[1].rollouts:
        c = rollout.completion
        logits = policy.causal_lm(input_ids=torch.tensor([c.prompt_ids + c.completion_ids])).logits[0]
        logprobs = torch.log_softmax(logits[len(c.prompt_ids) - 1 : -1] / config.rollout.temperature, 1)
        values.append(logprobs[range(len(c.completion_ids)), c.completion_ids] + 1)
    assert report.metrics["sampler_trainer_gap_nats"] == pytest.approx(torch.cat(values).abs().mean().item(), rel=1e-4)


def test_the_likelihood_of_the_trained_explanations_answer_is_a_metric(policy: Policy) -> None:
    """log pi(a* | q, c~): the two digits of 68 in the box, under the unhinted prompt."""
    watched = WatchedTrainer(policy)
    metrics = watched.step([FAILED]).metrics
    (sequence,) = [s for s in watched.sequences if s.likelihood_weight > 0]
    words = watched.trainer.prompts.tokenizer.convert_ids_to_tokens(sequence.completion_ids)
    assert words[-4:-2] == ["6", "8"]
    expected = logprobs_of(policy, sequence.prompt_ids, sequence.completion_ids)[-4:-2].sum().item()
    assert metrics["explanation_answer_logprob_nats"] == pytest.approx(expected, rel=1e-5)


def test_steps_of_explanations_are_checked_where_that_is_possible(policy: Policy) -> None:
    """1+1=2 is no step of 23+45, although the answer is right; of another question nobody here knows the steps."""
    metrics = WatchedTrainer(policy).step([FAILED]).metrics
    assert metrics["explanations_steps_right_share"] == 0 and metrics["explanations_trained_wrong_steps"] == 1
    script = {**SCRIPT, ("explanation", FAILED.id): ["23+45=68\n" + right(FAILED)] * 2}
    metrics = WatchedTrainer(policy, script).step([FAILED]).metrics
    assert metrics["explanations_steps_right_share"] == 1 and metrics["explanations_trained_wrong_steps"] == 0
    other = replace(FAILED, question="How much is 23 and 45?")
    assert "explanations_steps_right_share" not in WatchedTrainer(policy).step([other]).metrics


def test_what_was_generated_and_which_groups_taught_are_counted(policy: Policy) -> None:
    report = WatchedTrainer(policy).step()
    written = [r.completion for group in report.groups for r in group.rollouts]
    written += [e.completion for of_problem in report.explanations for e in of_problem]
    assert report.metrics["generated_tokens"] == sum(len(c.completion_ids) for c in written)
    assert report.metrics["groups_taught"] == 2  # the mixed one by its rollouts, the failed one by an explanation
    expert = WatchedTrainer(policy, explanation__source="expert").step()
    rollouts = sum(len(r.completion.completion_ids) for group in expert.groups for r in group.rollouts)
    assert expert.metrics["generated_tokens"] == rollouts and expert.metrics["groups_taught"] == 2
