"""One step of ExPO in plain torch, from top to bottom. Read this first.

GRPO samples a group of attempts at a problem and learns from their differences. Where all are wrong there is no
difference, and no gradient. ExPO (arXiv 2507.02834) then tells the model the answer, lets it explain how to get there,
and trains on that explanation with the answer hidden from the prompt. It maximises

    1/(P G) sum_i 1/|o_i| sum_t min(rho A_i, clip(rho, 1 - eps, 1 + eps) A_i)  +  w mean log pi(explanation | problem)

over P problems with G rollouts o_i each; A_i is a rollout's advantage, rho the ratio of a token's probability to the
one it was sampled with. In shapes, T is the number of tokens of one completion, V the size of the vocabulary.

`python examples/minimal_step.py` trains the small model that ships in the package on sums that it cannot do yet, on a
CPU in less than a minute. expo_lite/training/step.py takes the same step within a memory budget, with other losses too
and on several GPUs; tests/training/test_minimal_step.py holds the two equal.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expo_lite.config.settings import PolicyConfig, PromptConfig
from expo_lite.core.boxes import boxed_answer
from expo_lite.core.records import Completion, Problem
from expo_lite.grading.equivalence import settle
from expo_lite.model.policy import Policy, load_policy
from expo_lite.model.prompts import Prompts
from expo_lite.problems import tiny_world
from expo_lite.training.derivation import derives
from expo_lite.training.hint_leaks import leaked_phrase

P = 8  # problems per step
G = 8  # rollouts per problem
K = 4  # explanations of a problem that failed
TEMPERATURE = 0.7
MAX_NEW_TOKENS = 64
CLIP_EPSILON = 0.2
EXPLANATION_WEIGHT = 0.04  # w; best in the paper, where 0.5 is worse than plain GRPO
LEARNING_RATE = 1e-3  # the model has 0.8M parameters; a large one wants far less
MAX_GRAD_NORM = 1.0
SEED = 0
PROMPTS = PromptConfig(task="{question}", hinted="{question} The correct answer is {answer}. Explain why.")


@dataclass(frozen=True)
class Report:
    """What a step did."""

    share_right: float
    failed_groups: int
    explanations_kept: int
    loss: float


# ------------------------------------------------------------------------------------------------------- the step


def step(policy: Policy, optimizer: torch.optim.Optimizer, problems: Sequence[Problem], number: int) -> Report:
    """Problems and the number of the step -> one update of the LoRA adapter."""
    prompts = Prompts(policy.tokenizer, PROMPTS)

    # 1. Attempt: G rollouts of each problem from the current policy, o ~ pi(. | q).
    groups = [sample(policy, prompts.task(problem), G) for problem in problems]

    # 2. Verify: reward 1 for the right final answer, else 0.
    rewards = torch.tensor(  # (P, G)
        [[float(is_right(problem, o)) for o in group] for problem, group in zip(problems, groups, strict=True)]
    )

    # 3. Compare within each group: A = (r - mean r) / (std r + 1e-4). All right or all wrong gives 0.
    advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)  # (P, G)

    # 4. Failed groups have nothing to compare. Tell the policy the answer a and let it explain: c ~ pi(. | q, a).
    failed = [problem for problem, own in zip(problems, rewards, strict=True) if not own.any()]
    written = [sample(policy, prompts.hinted(problem), K) for problem in failed]

    # 5. Keep an explanation that is complete, arrives at the answer by steps and does not betray that it was told.
    #    Take one a problem, and hide the answer: it is trained on as if it had been written after the problem alone.
    explanations = []
    for problem, candidates in zip(failed, written, strict=True):
        right = [c for c in candidates if is_right(problem, c) and derives(c.text, problem)]
        fit = [c for c in right if leaked_phrase(c.text, problem) is None]
        if fit:
            chosen = random.Random(f"{SEED}/{number}/{problem.id}").choice(fit)  # any, but the same in a repeated run
            explanations.append(replace(chosen, prompt_ids=prompts.task(problem)))

    # 6. Loss. It has no gradient where every group is solved, or failed and could not be explained.
    loss = expo_loss(policy, groups, advantages, explanations)
    if loss.requires_grad:
        # 7. Update. Only the LoRA adapter changes, the base stays as it is.
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.trainable, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
    return Report(float(rewards.mean()), len(failed), len(explanations), float(loss.detach()))


def expo_loss(
    policy: Policy, groups: Sequence[Sequence[Completion]], advantages: Tensor, explanations: Sequence[Completion]
) -> Tensor:
    """Rollouts (P groups of G), advantages (P, G), explanations under their unhinted prompts -> the loss, a scalar."""
    loss = torch.zeros(())

    # GRPO's term: mean over a rollout's tokens, then over all P G rollouts, also those without a gradient.
    # The advantages of a group add up to 0, and so does the value of this term; its gradient does not.
    rollouts = [rollout for group in groups for rollout in group]
    for rollout, advantage in zip(rollouts, advantages.flatten(), strict=True):
        if advantage == 0:
            continue
        logprobs = completion_logprobs(policy, rollout, TEMPERATURE)  # (T,)
        ratio = torch.exp(logprobs - logprobs.detach())  # 1, with the gradient of log pi: a batch is used once
        clipped = ratio.clamp(1 - CLIP_EPSILON, 1 + CLIP_EPSILON)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage)  # (T,)
        loss = loss - surrogate.mean() / len(rollouts)

    # ExPO's term, w log pi(c | q): mean over an explanation's tokens, then over explanations. It has no advantage.
    for explanation in explanations:
        logprobs = completion_logprobs(policy, explanation, temperature=1.0)  # (T,)
        loss = loss - EXPLANATION_WEIGHT * logprobs.mean() / len(explanations)
    return loss


# ------------------------------------------------------------------------------------------------- what it rests on


def completion_logprobs(policy: Policy, completion: Completion, temperature: float) -> Tensor:
    """log pi(token | prompt, tokens before) of a completion's T tokens, its end token among them: (T,)."""
    ids = torch.tensor(completion.prompt_ids + completion.completion_ids)  # (prompt tokens + T,)
    logits = policy.causal_lm(input_ids=ids[None]).logits[0]  # (prompt tokens + T, V)
    start = len(completion.prompt_ids)
    predicted = torch.log_softmax(logits[start - 1 : -1] / temperature, dim=-1)  # (T, V): each by the token before
    return predicted.gather(1, ids[start:, None]).squeeze(1)


@torch.no_grad()
def sample(policy: Policy, prompt_ids: list[int], count: int) -> list[Completion]:
    """`count` completions of one prompt, each token drawn from softmax(logits / temperature)."""
    rows = torch.empty(count, 0, dtype=torch.long)  # (count, T)
    ends = torch.tensor(policy.end_ids)
    new, cache = torch.tensor([prompt_ids] * count), None  # first the prompt, (count, prompt tokens)
    for _ in range(MAX_NEW_TOKENS):
        out = policy.causal_lm(input_ids=new, past_key_values=cache, use_cache=True)
        probabilities = torch.softmax(out.logits[:, -1] / TEMPERATURE, dim=-1)  # (count, V)
        new, cache = torch.multinomial(probabilities, 1), out.past_key_values  # then a token each, (count, 1)
        rows = torch.cat([rows, new], dim=1)
        if torch.isin(rows, ends).any(dim=1).all():
            break
    return [until_its_end(policy, prompt_ids, row) for row in rows.tolist()]


def until_its_end(policy: Policy, prompt_ids: list[int], row: list[int]) -> Completion:
    """Sampled tokens up to the first end token, and with it; without one the completion is cut off."""
    length = next((t + 1 for t, token in enumerate(row) if token in policy.end_ids), None)
    text = policy.tokenizer.decode(row[:length], skip_special_tokens=True)
    return Completion(prompt_ids, row[:length], logprobs=[], finished=length is not None, text=str(text))


def is_right(problem: Problem, completion: Completion) -> bool:
    r"""Whether a completion came to an end, and its \boxed{answer} is the problem's. A sum needs no math-verify."""
    answer = boxed_answer(completion.text)
    return completion.finished and answer is not None and settle(problem.answer, answer) is True


def main(steps: int = 12) -> None:
    """Train on sums of five and six numbers, on which the base gives up early."""
    torch.set_num_threads(1)  # more gain nothing at this size
    policy = load_policy(PolicyConfig(model="tiny", device="cpu", quantization="none"), SEED)  # "nf4": in 4 bit
    optimizer = torch.optim.AdamW(policy.trainable, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    pool = [problem for level in (4, 5) for problem in tiny_world.problems("train", level, count=200)]
    order = random.Random(SEED)
    for number in range(1, steps + 1):
        report = step(policy, optimizer, order.sample(pool, P), number)
        print(
            f"step {number:2}: {report.share_right:4.0%} right, {report.failed_groups} of {P} groups failed, "
            f"{report.explanations_kept} explanations kept, loss {round(report.loss, 4) + 0:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
