"""DPO: its loss against TRL's, the gradient of a step against the formula, which pairs are made, and by whom."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from math import exp, log
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.naive_step import logprobs_of, random_step
from support.tiny_models import GradientRecorder, ScriptedSampler, live_units, tiny_config, tiny_policy, tiny_trainer
from test_step import FAILED, MIXED, PROBLEMS, SCRIPT, SOLVED
from torch import Tensor
from trl import DPOTrainer

from expo_lite.config.flags import as_flags
from expo_lite.config.methods import METHODS, method_of
from expo_lite.config.read import read_request
from expo_lite.core.errors import ConfigError
from expo_lite.core.records import Explanation, PreferencePair, RolloutGroup, TrainingSequence, Verdict
from expo_lite.model.policy import Policy
from expo_lite.model.sampler import Sampler
from expo_lite.runs.session import train
from expo_lite.training.dpo_pairs import preference_pairs, preference_weights
from expo_lite.training.losses import dpo_losses
from expo_lite.training.schedules import factor
from expo_lite.training.sequences import training_sequences

BETA = 0.1


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy()


def outputs(log_probs: Tensor) -> SimpleNamespace:
    """What TRL's fused head returns, as far as the loss needs it."""
    zero = torch.zeros_like(log_probs)
    return SimpleNamespace(log_probs=log_probs, entropy=zero, mean_logits=zero, is_top1=zero.bool())


def trl_loss(logprobs: Tensor, reference: Tensor, mask: Tensor, loss_types: dict[str, float]) -> Tensor:
    """`DPOTrainer._compute_loss` on a stand-in with the given log-probabilities (2 pairs, T), chosen rows first."""
    model = torch.nn.Identity()
    model.is_gradient_checkpointing = False  # type: ignore[assignment]
    accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    stand_in = SimpleNamespace(
        model=model,
        ref_model=lambda **_: outputs(reference),
        args=SimpleNamespace(gradient_checkpointing=False, gradient_checkpointing_kwargs=None),
        accelerator=accelerator,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=False,
        f_divergence_type="reverse_kl",
        loss_types=list(loss_types),
        loss_weights=list(loss_types.values()),
        beta=BETA,
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    completion_mask = torch.cat([torch.zeros(len(mask), 1, dtype=torch.long), mask], 1)
    inputs = {
        "completion_mask": completion_mask,
        "input_ids": torch.zeros_like(completion_mask),
        "attention_mask": torch.ones_like(completion_mask),
    }
    return DPOTrainer._compute_loss(stand_in, lambda **_: outputs(logprobs * mask), inputs, False)


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_equal_trl(seed: int) -> None:
    """Also the weights that the update multiplies log-probabilities with."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([7, 3, 12, 5, 2, 9])
    mask = (torch.arange(12) < lengths[:, None]).long()
    logprobs = (-3 * torch.rand(6, 12, generator=generator, dtype=torch.float64)).requires_grad_()
    reference = (logprobs + torch.randn(6, 12, generator=generator, dtype=torch.float64)).detach() * mask
    expected = trl_loss(logprobs, reference, mask, {"sigmoid": 1.0})
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)

    sums, reference_sums = (logprobs * mask).sum(1), reference.sum(1)
    losses, _ = dpo_losses(*sums.chunk(2), *reference_sums.chunk(2), BETA)
    torch.testing.assert_close(losses.mean(), expected)

    rows = [
        TrainingSequence([1], [1] * n, old_logprobs=own[:n].tolist(), reference_logprobs=of_base[:n].tolist())
        for n, own, of_base in zip(lengths.tolist(), logprobs.detach(), reference, strict=True)
    ]
    in_turn = [row for pair in zip(rows[:3], rows[3:], strict=True) for row in pair]
    weighted, metrics = preference_weights(in_turn, tiny_config(dpo__beta=BETA).dpo)
    weights = torch.tensor([row.likelihood_weight for row in [*weighted[::2], *weighted[1::2]]], dtype=torch.float64)
    torch.testing.assert_close(-weights[:, None] * mask, expected_gradient)
    assert metrics["dpo_loss"] == pytest.approx(expected.item())
    assert metrics["pairs"] == 3


def test_nll_term_equals_trl_for_equal_lengths() -> None:
    """TRL takes one mean over all chosen tokens, we a mean by pair: the same where the lengths are."""
    mask = torch.ones(4, 5, dtype=torch.long)
    logprobs = (-torch.rand(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).requires_grad_()
    reference = torch.zeros(4, 5, dtype=torch.float64)
    (expected,) = torch.autograd.grad(trl_loss(logprobs, reference, mask, {"sigmoid": 1.0, "sft": 0.3}), logprobs)
    rows = [
        TrainingSequence([1], [1] * 5, old_logprobs=logprobs[i].tolist(), reference_logprobs=[0.0] * 5)
        for i in (0, 2, 1, 3)
    ]
    weighted, _ = preference_weights(rows, tiny_config(dpo__nll_weight=0.3).dpo)
    weights = [weighted[i].likelihood_weight for i in (0, 2, 1, 3)]
    torch.testing.assert_close(-torch.tensor(weights, dtype=torch.float64)[:, None].expand(4, 5), expected)


def test_loss_by_hand() -> None:
    """Margins ln 3 / beta and 0: losses ln(4/3) and ln 2."""
    chosen, rejected = torch.tensor([log(3) / BETA, -2.0]), torch.tensor([1.0, -2.0])
    losses, margins = dpo_losses(chosen, rejected, torch.zeros(2), torch.tensor([1.0, 0.0]), BETA)
    assert margins.tolist() == pytest.approx([log(3) / BETA, 0.0])
    assert losses.tolist() == pytest.approx([log(4 / 3), log(2)])


def with_wrong_rollouts(policy: Policy, seed: int) -> tuple[list[RolloutGroup], list[list[Explanation]]]:
    """A mixed group without explanation, the failed one with two, a mixed one with one."""
    groups, explanations = random_step(policy, seed)
    prompt = groups[3].rollouts[0].completion.prompt_ids
    last = [replace(explanations[2][0], problem=groups[3].problem, unhinted_ids=prompt)]
    return [groups[0], groups[1], groups[3]], [[], explanations[1], last]


def pairs_of(policy: Policy, seed: int) -> list[PreferencePair]:
    return preference_pairs(*with_wrong_rollouts(policy, seed), tiny_config(seed=seed), 1)


def naive_gradient(policy: Policy, pairs: list[PreferencePair], beta: float, nll_weight: float) -> Tensor:
    """The formula as it stands, both sequences in one graph, with transformers' logits."""

    def scored(sequence: TrainingSequence) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), policy.reference():
            reference = logprobs_of(policy, sequence.prompt_ids, sequence.completion_ids)
        return logprobs_of(policy, sequence.prompt_ids, sequence.completion_ids), reference

    losses = []
    for pair in pairs:
        (chosen, chosen_reference), (rejected, rejected_reference) = scored(pair.chosen), scored(pair.rejected)
        margin = (chosen - chosen_reference).sum() - (rejected - rejected_reference).sum()
        losses.append(torch.log1p(torch.exp(-beta * margin)) - nll_weight * chosen.mean())
    gradients = torch.autograd.grad(torch.stack(losses).mean(), policy.trainable)
    return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("nll_weight", [0.0, 0.2])
@pytest.mark.parametrize("micro_batch_tokens", [1, 40, 10_000])
def test_gradient_equals_the_formula_for_any_micro_batch_cut(
    policy: Policy, micro_batch_tokens: int, nll_weight: float
) -> None:
    config = tiny_config(
        objective__name="dpo",
        dpo__nll_weight=nll_weight,
        memory__micro_batch_tokens=micro_batch_tokens,
        memory__logprob_chunk=7,
    )
    pairs = pairs_of(policy, seed=0)
    recorder = GradientRecorder(policy)
    metrics = tiny_trainer(config, policy, optimizer=recorder).updater.update_on_pairs(pairs)
    expected = naive_gradient(policy, pairs, config.dpo.beta, nll_weight)
    assert expected.norm() > 1e-3
    assert (recorder.gradients[0] - expected).norm() < 1e-5 * expected.norm()
    assert metrics["pairs"] == 3 and metrics["updates"] == 1
    tokens = [token for pair in pairs for token in pair.chosen.completion_ids]
    nll = torch.cat([-logprobs_of(policy, p.chosen.prompt_ids, p.chosen.completion_ids) for p in pairs])
    entropies = []
    for pair in pairs:  # of the rejected, the policy's own attempts
        ids = pair.rejected.prompt_ids + pair.rejected.completion_ids
        logits = policy.causal_lm(input_ids=torch.tensor([ids])).logits[0, len(pair.rejected.prompt_ids) - 1 : -1]
        entropies.append(torch.distributions.Categorical(logits=logits).entropy())
    assert metrics["entropy_nats"] == pytest.approx(torch.cat(entropies).mean().item(), rel=1e-4)
    assert metrics["explanation_nll_nats"] == pytest.approx(nll.sum().item() / len(tokens), rel=1e-5)


def test_each_update_weighs_anew(policy: Policy) -> None:
    """With several updates per batch, the second follows the margins after the first."""
    policy = tiny_policy(seed=1)
    config = tiny_config(objective__name="dpo", objective__updates_per_batch=2)
    pairs, recorder = pairs_of(policy, seed=1), GradientRecorder(policy, learning_rate=0.05)
    tiny_trainer(config, policy, optimizer=recorder).updater.update_on_pairs(pairs)
    with torch.no_grad():  # undo the second step
        flat = 0.05 * recorder.gradients[1]
        for parameter in policy.trainable:
            parameter += flat[: parameter.numel()].view_as(parameter)
            flat = flat[parameter.numel() :]
    expected = naive_gradient(policy, pairs, config.dpo.beta, 0.0)
    assert (recorder.gradients[1] - expected).norm() < 1e-4 * expected.norm()
    assert (recorder.gradients[0] - expected).norm() > 1e-3 * expected.norm()


def test_without_pairs_nothing_is_updated(policy: Policy) -> None:
    recorder = GradientRecorder(policy)
    config = tiny_config(objective__name="dpo")
    metrics = tiny_trainer(config, policy, optimizer=recorder).updater.update_on_pairs([])
    assert recorder.gradients == [] and metrics["pairs"] == metrics["updates"] == 0
    assert "dpo_loss" not in metrics


def test_a_pair_holds_an_explanation_and_a_wrong_rollout_of_its_own_group(policy: Policy) -> None:
    groups, explanations = with_wrong_rollouts(policy, seed=2)
    pairs = preference_pairs(groups, explanations, tiny_config(), draw=4)
    written = [e.completion.completion_ids for of_prompt in explanations for e in of_prompt]
    assert [pair.chosen.completion_ids for pair in pairs] == written
    for pair, group in zip(pairs, (groups[1], groups[1], groups[2]), strict=True):
        wrong = [r.completion.completion_ids for r in group.rollouts if r.verdict is Verdict.WRONG]
        assert pair.rejected.completion_ids in wrong
        assert pair.rejected.prompt_ids == pair.chosen.prompt_ids == group.rollouts[0].completion.prompt_ids


def test_rollouts_that_were_cut_off_can_be_left_out(policy: Policy) -> None:
    """Of the failed group only one is whole; of the last, none that is wrong: it makes no pair."""
    groups, explanations = with_wrong_rollouts(policy, seed=2)

    def cut(index: int, whole: int | None) -> RolloutGroup:
        rollouts = [
            replace(r, completion=replace(r.completion, finished=number == whole))
            for number, r in enumerate(groups[index].rollouts)
        ]
        return replace(groups[index], rollouts=rollouts)

    cut_off = [groups[0], cut(1, whole=2), cut(2, whole=None)]
    pairs = preference_pairs(cut_off, explanations, tiny_config(objective__mask_truncated=True), draw=1)
    only = groups[1].rollouts[2].completion.completion_ids
    assert [pair.rejected.completion_ids for pair in pairs] == [only, only]
    assert len(preference_pairs(cut_off, explanations, tiny_config(), draw=1)) == 3


def test_rollouts_that_were_not_judged_in_time_are_left_out(policy: Policy) -> None:
    groups, explanations = with_wrong_rollouts(policy, seed=2)
    late = [replace(r, verdict=Verdict.TIMEOUT) for r in groups[1].rollouts[:-1]]
    groups = [groups[0], replace(groups[1], rollouts=[*late, groups[1].rollouts[-1]]), groups[2]]
    for draw in range(4):
        pairs = preference_pairs(groups, explanations, tiny_config(), draw)
        only = groups[1].rollouts[-1].completion.completion_ids
        assert [pair.rejected.completion_ids for pair in pairs[:2]] == [only, only]


def test_every_wrong_rollout_has_its_turn_and_each_draw_repeats(policy: Policy) -> None:
    groups, explanations = with_wrong_rollouts(policy, seed=2)
    rejected = [
        [p.rejected.completion_ids for p in preference_pairs(groups, explanations, tiny_config(), draw)]
        for draw in range(40)
    ]
    assert rejected == [
        [p.rejected.completion_ids for p in preference_pairs(groups, explanations, tiny_config(), draw)]
        for draw in range(40)
    ]
    assert len(Counter(map(str, (of_draw[0] for of_draw in rejected)))) == 4


def test_step_explains_failed_and_mixed_groups(policy: Policy) -> None:
    sampler = ScriptedSampler(policy, SCRIPT)
    trainer = tiny_trainer(tiny_config(objective__name="dpo", explanation__samples=2), policy, sampler)
    pairs: list[PreferencePair] = []
    update: Any = trainer.updater.update_on_pairs
    trainer.updater.update_on_pairs = lambda found, *_: pairs.extend(found) or update(found)  # type: ignore[method-assign]
    report = trainer.step(3, PROBLEMS)
    explained = {r.stream[-1] for r in sampler.requests if r.stream[1] == "explanation"}
    assert explained == {FAILED.id, MIXED.id} and SOLVED.id not in explained
    decode = policy.tokenizer.decode
    texts = [
        (decode(p.chosen.completion_ids, skip_special_tokens=True), decode(p.rejected.completion_ids)) for p in pairs
    ]
    assert [chosen for chosen, _ in texts] == [SCRIPT["explanation", p.id][1] for p in (FAILED, MIXED)]
    assert "2" in texts[1][1] and decode(trainer.prompts.task(MIXED)) == decode(pairs[1].chosen.prompt_ids)
    assert report.metrics["pairs"] == 2 and report.metrics["rescued_groups"] == 1


def real_step(policy: Policy, pairs: str, number: int) -> list[list[int]]:
    """Rollouts of one step, really sampled from a random model."""
    config = tiny_config(objective__name="dpo", dpo__pairs=pairs)
    trainer = tiny_trainer(config, policy, Sampler(policy, live_units()))
    report = trainer.step(number, [random.Random(0).choice(PROBLEMS)])
    return [rollout.completion.completion_ids for group in report.groups for rollout in group.rollouts]


def test_offline_pairs_are_the_bases_and_never_change(policy: Policy) -> None:
    """Whatever the adapter is by now, and whatever the step."""
    bare = tiny_policy()
    for name, parameter in bare.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(parameter)
    offline = real_step(policy, "offline", 1)
    assert offline == real_step(policy, "offline", 7) == real_step(bare, "offline", 2)
    assert real_step(policy, "online", 1) != offline
    assert real_step(policy, "online", 1) != real_step(policy, "online", 2)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--explanation.source", "none"], "explanation.source: DPO"),
        (["--kl.coef", "0.1"], "kl.coef: DPO"),
        (["--dpo.beta", "0"], "dpo.beta: should be greater than 0"),
    ],
)
def test_what_cannot_work_is_refused(flags: list[str], field: str) -> None:
    with pytest.raises(ConfigError, match=field) as error:
        read_request(["--preset", "tiny", "--objective.name", "dpo", *flags])
    assert "got Config" not in str(error.value) and "\n" not in str(error.value)


def test_an_adapter_cannot_make_offline_pairs_but_can_be_opened() -> None:
    """A run's evaluation reads its settings together with its adapter."""
    flags = ["--preset", "tiny", "--objective.name", "dpo", "--dpo.pairs", "offline", "--policy.adapter", "nowhere"]
    request = read_request(flags)
    with pytest.raises(ConfigError, match=r"^policy\.adapter: offline"):
        train(request)


@pytest.mark.parametrize("name", METHODS)
def test_flags_of_a_method_make_that_method(name: str) -> None:
    assert method_of(read_request(["--preset", "tiny", *as_flags(METHODS[name].settings)]).config) == name


def test_every_configuration_has_a_method() -> None:
    for source in ("self", "expert"):
        for gate in ("failed", "every"):
            for pairs in ("online", "offline"):
                for objective in ("grpo", "dpo"):
                    settings = {"explanation__source": source, "explanation__gate": gate, "dpo__pairs": pairs}
                    assert method_of(tiny_config(objective__name=objective, **settings)) in METHODS


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25]), ("cosine", [1, 0.8535534, 0.5, 0.1464466])],
)
def test_the_explanation_weight_follows_its_schedule(policy: Policy, schedule: str, expected: list[float]) -> None:
    """Steps 1 to 4 of 4; half a cosine wave at 0, 45, 90 and 135 degrees."""
    config = tiny_config(steps=4, explanation__schedule=schedule, explanation__weight=0.5)
    _, explanations = random_step(policy, seed=0)
    tokens = len(explanations[2][0].completion.completion_ids)
    for step, share in enumerate(expected, start=1):
        *_, last = training_sequences([], explanations, config, step)
        assert last.likelihood_weight == pytest.approx(0.5 * share / (2 * tokens))
    assert factor(schedule, 1.0) == pytest.approx(1.0 if schedule == "constant" else 0.0)  # type: ignore[arg-type]
    assert exp(0) == factor(schedule, 0.0)  # type: ignore[arg-type]
