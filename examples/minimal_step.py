"""ExPO in one file: attempt, verify, explain what failed, train on it with the answer hidden.

    python examples/minimal_step.py

Trains the small model that ships in the package on sums of two to six numbers, on a CPU. The file reads from top to
bottom as the paper does (arXiv 2507.02834, ExP-GRPO). It has no memory budget, waves, micro-batches, KV cache, resume
or several GPUs: expo_lite/training/step.py is the same step with them, and tests/training/test_minimal_step.py holds
loss and gradient of the two equal.

Shapes: P problems in a step, G rollouts of each, K explanations, T tokens of a completion, V the vocabulary.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from expo_lite.config.process_setup import hush_libraries
from expo_lite.config.settings import PolicyConfig, PromptConfig
from expo_lite.core.records import Problem
from expo_lite.grading.answer_text import boxed_answer
from expo_lite.model.prompts import Prompts
from expo_lite.problems import tiny_world
from expo_lite.training.hint_leaks import leaked_phrase

if TYPE_CHECKING:
    from expo_lite.model.policy import Policy

P, G, K = 8, 8, 4
TEMPERATURE, LONGEST = 0.7, 64  # of sampling; tokens of a completion
WEIGHT = 0.04  # of the explanation term: the paper's beta
LEARNING_RATE, CLIP = 5e-4, 1.0
TASK, HINTED = "{question}", "{question} The correct answer is {answer}. Explain why."


@dataclass
class Text:
    """A completion: its token ids with the end token, the text, and whether it ended by itself."""

    ids: list[int]
    text: str
    ended: bool


@dataclass
class Group:
    """A problem's G rollouts with their rewards, 1 for the right answer, and the explanations that were kept."""

    problem: Problem
    prompt: list[int]
    rollouts: list[Text]
    rewards: list[float]
    explanations: list[Text]


# 1. Attempt: G rollouts of each problem from the policy itself, which is the base with its adapter.


@torch.no_grad()
def sample(policy: Policy, prompt: list[int], count: int) -> list[Text]:
    """`count` completions of one prompt, token by token."""
    rows = torch.tensor([prompt] * count)  # (count, T)
    for _ in range(LONGEST):
        logits = policy.causal_lm(input_ids=rows).logits[:, -1].float()  # (count, V)
        rows = torch.cat([rows, torch.multinomial(torch.softmax(logits / TEMPERATURE, -1), 1)], dim=1)
        if torch.isin(rows[:, len(prompt) :], torch.tensor(policy.end_ids)).any(dim=1).all():
            break
    return [cut(policy, row[len(prompt) :]) for row in rows.tolist()]


def cut(policy: Policy, ids: list[int]) -> Text:
    """A row up to its end token."""
    end = next((t + 1 for t, token in enumerate(ids) if token in policy.end_ids), None)
    return Text(ids[:end], str(policy.tokenizer.decode(ids[:end], skip_special_tokens=True)), end is not None)


# 2. Verify: a rollout that is cut off counts as wrong.


def is_right(written: Text, problem: Problem) -> bool:
    return written.ended and boxed_answer(written.text) == problem.answer


# 3. Compare within the group (GRPO). Where all rollouts failed, or all are right, this is 0: nothing to learn from.


def advantages(rewards: list[float]) -> list[float]:
    """(G,) rewards, centred and divided by their standard deviation."""
    centred = torch.tensor(rewards, dtype=torch.float64) - sum(rewards) / len(rewards)
    return (centred / (centred.square().sum().div(len(rewards) - 1).sqrt() + 1e-4)).tolist()


# 4. Explain what failed: the policy is told the answer and explains it. Kept is what ends, arrives at the answer, and
#    does not speak of having been told; of several one at random.


def explain(policy: Policy, prompts: Prompts, problem: Problem) -> list[Text]:
    written = sample(policy, prompts.hinted(problem), K)
    kept = [each for each in written if is_right(each, problem) and leaked_phrase(each.text) is None]
    return random.sample(kept, min(1, len(kept)))


# 5. The loss. What was explained with the answer is trained under the prompt WITHOUT it: that prompt is what will be
#    asked, and there the explanation is new to the model, but near to what it would say itself.


def logprobs(policy: Policy, prompt: list[int], ids: list[int], temperature: float = 1.0) -> Tensor:
    """(T,) log pi(token | prompt, tokens before)."""
    logits = policy.causal_lm(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].float()  # (T, V)
    return torch.log_softmax(logits / temperature, dim=-1)[range(len(ids)), ids]


def loss(policy: Policy, groups: list[Group], weight: float = WEIGHT, temperature: float = TEMPERATURE) -> Tensor:
    """GRPO's mean over all P G rollouts of the mean over their tokens, and the explanations' negative likelihood."""
    surrogates, unlikely = [], []
    for group in groups:
        for rollout, advantage in zip(group.rollouts, advantages(group.rewards), strict=True):
            if advantage == 0:  # no gradient, but it counts in the mean
                surrogates.append(torch.zeros(()))
                continue
            own = logprobs(policy, group.prompt, rollout.ids, temperature)
            ratio = torch.exp(own - own.detach())  # 1: the policy is the one that sampled; its gradient is that of own
            surrogates.append(-(advantage * ratio).mean())
        if group.explanations:
            each = [-logprobs(policy, group.prompt, explanation.ids).mean() for explanation in group.explanations]
            unlikely.append(torch.stack(each).mean())
    grpo = torch.stack(surrogates).mean()
    return grpo + weight * torch.stack(unlikely).mean() if unlikely else grpo


# 6. The step: the adapter alone is trained.


def gather(policy: Policy, prompts: Prompts, problems: list[Problem]) -> list[Group]:
    """Rollouts of every problem, and explanations of those that failed."""
    groups = []
    for problem in problems:
        rollouts = sample(policy, prompts.task(problem), G)
        rewards = [float(is_right(rollout, problem)) for rollout in rollouts]
        explanations = [] if any(rewards) else explain(policy, prompts, problem)
        groups.append(Group(problem, prompts.task(problem), rollouts, rewards, explanations))
    return groups


def main(steps: int = 10) -> None:
    hush_libraries()
    from expo_lite.model.policy import load_policy  # late: what is hushed speaks while it is imported

    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(1)
    policy = load_policy(PolicyConfig(model="tiny", device="cpu", quantization="none"), seed=0)
    prompts = Prompts(policy.tokenizer, PromptConfig(task=TASK, hinted=HINTED))
    optimizer = torch.optim.AdamW(policy.trainable, lr=LEARNING_RATE, weight_decay=0.0)
    by_level = [tiny_world.problems("train", level, steps * P) for level in (2, 3, 4, 5)]
    problems = iter(random.sample([p for of_level in by_level for p in of_level], steps * P))
    for step in range(1, steps + 1):
        groups = gather(policy, prompts, list(islice(problems, P)))
        value = loss(policy, groups)
        if value.requires_grad:  # else every group is solved or could not be explained
            value.backward()
            torch.nn.utils.clip_grad_norm_(policy.trainable, CLIP)
            optimizer.step()
            optimizer.zero_grad()
        right = sum(sum(group.rewards) for group in groups) / (P * G)
        failed = [group for group in groups if not any(group.rewards)]
        taught = sum(bool(group.explanations) for group in failed)
        print(f"step {step}: {right:4.0%} right, {len(failed)} of {P} failed, {taught} explained, loss {value:+.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
