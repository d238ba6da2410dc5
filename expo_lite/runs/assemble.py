"""config -> everything a run needs, wired together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from bitsandbytes.optim.adamw import AdamW8bit

from expo_lite.config.settings import Config, OptimizerConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.grading.evaluator import Evaluator
from expo_lite.grading.judge import Judge, SharedJudge
from expo_lite.grading.reward_function import Function, RewardFunction, load_function
from expo_lite.grading.verifier import Verifier
from expo_lite.memory.budget import BudgetedPlan, plan_on
from expo_lite.memory.cap import cap_memory, place_here
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.remedies import require_fit
from expo_lite.model.decode_step import Graphs
from expo_lite.model.policy import Policy, load_policy, resolve_device
from expo_lite.model.prompts import Prompts, has_system
from expo_lite.model.ranks import ALONE, Ranks
from expo_lite.model.sampler import Sampler
from expo_lite.problems import ProblemSet, load_problems
from expo_lite.runs.prepared import prepared
from expo_lite.training.explainer import Explainer
from expo_lite.training.schedules import factor
from expo_lite.training.step import Trainer
from expo_lite.training.updater import Updater

PLAIN = (
    'policy.model has no chat template: it is asked in plain text, "Question: ... Answer:", and stops before a next '
    '"Question:".'
)


@dataclass(frozen=True)
class Settled:
    """What is settled before anything is loaded, once: where a run takes place, what is alive at once, and who judges.

    `function` is the reward function; None where the verifier judges.
    """

    config: Config
    device: torch.device
    planned: BudgetedPlan
    function: Function | None


def settle(config: Config, function: Function | None = None) -> Settled:
    """Find device, memory plan and reward function; `function` stands for the one that the configuration may name.

    Raises ConfigError for a device or function that is not there, MemoryBudgetError where the run does not fit.
    """
    function = function or load_function(config.reward.function)
    device = resolve_device(config.policy.device)
    planned = plan_on(config, place_here(device))
    require_fit(config, planned)
    return Settled(config, device, planned, function)


@dataclass(frozen=True)
class Assembly:
    """The parts of a run that share one set of weights. Use it as a context: it ends the judge's workers."""

    policy: Policy
    problems: ProblemSet
    ranks: Ranks
    sampler: Sampler
    prompts: Prompts
    judge: Judge
    evaluator: Evaluator
    trainer: Trainer

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self.judge.close()


def assemble(settled: Settled, ranks: Ranks = ALONE) -> Assembly:
    """Load data and model and wire them. Raises ConfigError or DataError, before anything slow where possible."""
    config = settled.config
    problems = load_problems(config.data, examples=config.prompt.examples)
    if config.explanation.source == "expert" and not any(p.solution for p in problems.train):
        raise DataError("explanation.source: no problem of this data has a solution to learn from (got expert)")
    model = open_model(settled, ranks)
    policy, sampler, prompts, rollout = model.policy, model.sampler, model.prompts, config.rollout
    problems = with_short_prompts(problems, prompts, rollout.max_prompt_tokens)
    if config.explanation.source == "expert":
        problems = with_short_solutions(problems, prompts, rollout.max_new_tokens)
    notes = [PLAIN] if prompts.plain else []
    problems = replace(
        problems, notes=(*problems.notes, *notes, *chat_notes(problems, config, settled.function is not None))
    )
    judge = judge_of(config, prompts, settled.function, ranks)
    explainer = Explainer(config, sampler, prompts, judge)
    evaluator = evaluator_of(config, sampler, prompts, judge)
    optimizer, scheduler = build_optimizer(policy, config.optimizer, config.steps)
    updater = Updater(config, policy, sampler.units, optimizer, scheduler, ranks)
    trainer = Trainer(config, sampler, prompts, judge, explainer, updater)
    return Assembly(policy, problems, ranks, sampler, prompts, judge, evaluator, trainer)


class OpenModel(NamedTuple):
    """A policy within its memory budget, with what writes and prompts."""

    policy: Policy
    sampler: Sampler
    prompts: Prompts


def open_model(settled: Settled, ranks: Ranks = ALONE) -> OpenModel:
    """Load the model, within its budget. Raises ConfigError."""
    config, planned = settled.config, settled.planned
    if config.threads:
        torch.set_num_threads(config.threads)
    cap_memory(settled.device, planned.budget_gib)
    if ranks.is_first:
        prepared(config.policy.model)
    ranks.wait()
    policy = load_policy(config.policy, config.seed, config.sequence_tokens, settled.device)
    workload, units = planned.workload, LiveUnits.planned(planned.units)
    sampler = Sampler(policy, units, workload.dense, ranks, graphs=Graphs(workload.graphs))
    return OpenModel(policy, sampler, Prompts(policy.tokenizer, config.prompt, policy.vocabulary))


def judge_of(config: Config, prompts: Prompts, function: Function | None, ranks: Ranks = ALONE) -> Judge:
    """The reward function if there is one, else the verifier."""
    if function is None:
        judge: Judge = Verifier(config.verifier.timeout_seconds, config.verifier.workers)
    else:
        judge = RewardFunction(function, config.reward, prompts)
    return judge if ranks.count == 1 else SharedJudge(judge, ranks)


def evaluator_of(config: Config, sampler: Sampler, prompts: Prompts, judge: Judge) -> Evaluator:
    """An evaluator with the configured number of samples, length and temperature."""
    rollout = config.rollout
    return Evaluator(
        sampler, prompts, judge, config.seed, config.evaluation.samples, rollout.max_new_tokens, rollout.temperature
    )


def assemble_evaluator(settled: Settled) -> Evaluator:
    """What evaluating needs of a run: the model, without data and optimizer. Raises ConfigError."""
    config, model = settled.config, open_model(settled)
    return evaluator_of(config, model.sampler, model.prompts, judge_of(config, model.prompts, settled.function))


def with_prompts_within(limit: int, of_set: Sequence[Problem], name: str, prompts: Prompts) -> list[Problem]:
    """The problems whose task and hinted prompts have at most `limit` tokens. Raises DataError if none has."""
    kept = [p for p, tokens in zip(of_set, prompts.lengths(of_set), strict=True) if tokens <= limit]
    if not kept:
        raise DataError(f"rollout.max_prompt_tokens: no {name} problem has a prompt of at most {limit} tokens")
    return kept


def with_short_prompts(problems: ProblemSet, prompts: Prompts, limit: int) -> ProblemSet:
    """The problems whose task and hinted prompts have at most `limit` tokens, with a note on how many have not.

    Raises DataError if none is left to train, validate or test on.
    """
    names = ("train", "validation", "test")
    sets = {name: with_prompts_within(limit, getattr(problems, name), name, prompts) for name in names}
    left_out = sum(len(getattr(problems, name)) - len(kept) for name, kept in sets.items())
    note = f"{left_out} problems with prompts of more than {limit} tokens are left out."
    return ProblemSet(**sets, notes=(*problems.notes, note) if left_out else problems.notes)


def with_short_solutions(problems: ProblemSet, prompts: Prompts, limit: int) -> ProblemSet:
    """Training problems keep their solutions of at most `limit` tokens; a note says how many are longer.

    Raises DataError if no solution is left.
    """

    def short(problem: Problem) -> Problem:
        fits = problem.solution is None or len(prompts.completion(problem.solution)) <= limit
        return problem if fits else replace(problem, solution=None)

    train = [short(problem) for problem in problems.train]
    if not any(problem.solution for problem in train):
        raise DataError(f"rollout.max_new_tokens: no problem has a solution of at most {limit} tokens to learn from")
    longer = sum(before != after for before, after in zip(problems.train, train, strict=True))
    note = f"{longer} solutions of more than {limit} tokens are not trained on."
    return replace(problems, train=train, notes=(*problems.notes, note) if longer else problems.notes)


def chat_notes(problems: ProblemSet, config: Config, rewarded: bool) -> list[str]:
    """What of the problems' chats takes the place of a setting, or does not reach a reward function (`rewarded`)."""
    every = [*problems.train, *problems.validation, *problems.test]
    own, chats = sum(map(has_system, every)), sum(bool(problem.turns) for problem in every)
    notes = {
        f"{own} problems have a system turn of their own, in place of prompt.system.": own and config.prompt.system,
        f"reward.function is told the last turn alone of {chats} chats; reward.messages true hands over all turns.": (
            chats and rewarded and not config.reward.messages
        ),
    }
    return [note for note, applies in notes.items() if applies]


def build_optimizer(
    policy: Policy, config: OptimizerConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW on the adapter, with a learning rate that is a function of the step alone."""
    make = {"adamw": torch.optim.AdamW, "adamw_8bit": AdamW8bit}[config.name]
    optimizer = make(policy.trainable, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(config, step, steps))


def rate_factor(config: OptimizerConfig, step: int, steps: int) -> float:
    """What the learning rate of a step (from 0) is multiplied by: linear warm-up, then the schedule, down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return factor(config.schedule, share)
