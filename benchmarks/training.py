"""The training pass with what sequences share computed once, beside the plain pass: `python benchmarks/training.py`.

Both passes take the same sequences by turns, in one process and on one thread: those of the tiny preset's first steps,
and rollouts of random tokens on random weights of SmolLM2-135M's shape. Seconds are the processor's, not the clock's.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from itertools import islice
from statistics import median

import torch
from transformers import LlamaForCausalLM

from expo_lite.config.model_files import SMOL
from expo_lite.config.read import read_request
from expo_lite.config.settings import Config, PolicyConfig
from expo_lite.core.records import TrainingSequence
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.shapes import KNOWN
from expo_lite.model.grouped_attention import GROUPED_DECODING, decode_grouped
from expo_lite.model.policy import Policy, add_adapter
from expo_lite.model.prefix_tree import laid_out
from expo_lite.model.smollm2 import llama_config
from expo_lite.problems import draw_problems
from expo_lite.runs.assemble import assemble, build_optimizer, settle
from expo_lite.training.micro_batches import cut_micro_batches
from expo_lite.training.updater import Updater
from scripts.tiny_base.tokenizer import build_tokenizer

HEADER = (
    "| sequences | tokens | padded rows | computed | plain s | once s | plain / once, each turn | gradients apart |"
)


def gradient(updater: Updater, sequences: Sequence[TrainingSequence], attention: str) -> tuple[float, torch.Tensor]:
    """Seconds and gradient of one pass; transformers' own attention knows no trees, and so takes the plain pass."""
    updater.policy.causal_lm.set_attn_implementation(attention)
    start = time.process_time()
    for _ in updater.in_micro_batches(sequences, updater.accumulate_gradients):
        pass
    seconds = time.process_time() - start
    found = torch.cat([p.grad.flatten() for p in updater.policy.trainable if p.grad is not None])
    updater.optimizer.zero_grad(set_to_none=True)
    return seconds, found


def computed_tokens(updater: Updater, sequences: Sequence[TrainingSequence], trees: bool) -> int:
    """Tokens that linear layers see in one pass."""
    cut = cut_micro_batches(sequences, lambda: updater.units.micro_batch_tokens, trees)
    ids = [[row.prompt_ids + row.completion_ids for row in rows] for rows in cut]
    inputs = [laid_out(own, 0, torch.device("cpu"), trees, unread=1)[0] for own in ids]
    return sum((one if isinstance(one, torch.Tensor) else one.tokens).numel() for one in inputs)


def row(name: str, updater: Updater, sequences: Sequence[TrainingSequence], turns: int) -> str:
    """A line of the table."""
    gradient(updater, sequences, "sdpa")  # warm
    plain, once, apart = [], [], 0.0
    for _ in range(turns):
        seconds, theirs = gradient(updater, sequences, "sdpa")
        plain.append(seconds)
        seconds, ours = gradient(updater, sequences, GROUPED_DECODING)
        once.append(seconds)
        apart = max(apart, float((ours - theirs).norm() / theirs.norm()))
    ratios = " ".join(f"{a / b:.2f}" for a, b in zip(plain, once, strict=True))
    tokens = sum(sequence.length for sequence in sequences)
    padded, computed = (computed_tokens(updater, sequences, trees) for trees in (False, True))
    seconds = f"{median(plain):.2f} | {median(once):.2f}"
    return f"| {name} | {tokens} | {padded} | {computed} | {seconds} | {ratios} | {apart:.0e} |"


def tiny_rows(flags: list[str], steps: int, turns: int) -> None:
    """Print a line for each of the tiny preset's first steps."""
    config = read_request(["--preset", "tiny", *flags], "benchmarks/training.py").config
    with assemble(settle(config)) as parts:
        updater = parts.trainer.updater
        update = updater.update

        def watched(sequences: Sequence[TrainingSequence], *rest: object) -> dict[str, float]:
            print(row(" ".join(["tiny", *flags, f"step {number}"]), updater, sequences, turns), flush=True)
            return update(sequences, *rest)  # type: ignore[arg-type]

        updater.update = watched  # type: ignore[method-assign]
        for number in range(1, steps + 1):
            problems = draw_problems(parts.problems.train, config.data.levels, config.seed, number)
            parts.trainer.step(number, list(islice(problems, config.rollout.prompts_per_step)))


def smol_policy(checkpointing: bool) -> Policy:
    """Random float32 weights of SmolLM2-135M's shape."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(llama_config())
    decode_grouped(base)
    settings = PolicyConfig(quantization="none", gradient_checkpointing=checkpointing)
    policy = add_adapter(base, build_tokenizer(), settings, 0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return policy


def random_rollouts(groups: int, group_size: int, prompt: int, completion: int) -> list[TrainingSequence]:
    """Log-normal completions with this median, as memory/forecast assumes them."""
    rng = random.Random(0)
    sequences = []
    for _ in range(groups):
        ids = [rng.randrange(KNOWN[SMOL].vocabulary) for _ in range(prompt)]
        for _ in range(group_size):
            written = max(1, round(completion * rng.lognormvariate(0, 0.5)))
            tokens = [rng.randrange(KNOWN[SMOL].vocabulary) for _ in range(written)]
            sequences.append(TrainingSequence(ids, tokens, rng.choice([-1.0, 1.0]), 1e-3))
    return sequences


def smol_rows(turns: int) -> None:
    """Print lines for prompts that are 30, 50 and 70 % of a sequence."""
    for checkpointing in (True, False):
        policy = smol_policy(checkpointing)
        config = Config()
        optimizer, scheduler = build_optimizer(policy, config.optimizer, 1)
        updater = Updater(config, policy, LiveUnits(8, 4096, 256), optimizer, scheduler)
        for prompt in (30, 50, 70):
            name = f"135M, {'checkpointing, ' if checkpointing else ''}prompt {prompt}, completion {100 - prompt}"
            print(row(name, updater, random_rollouts(2, 4, prompt, 100 - prompt), turns), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    arguments.add_argument("--steps", type=int, default=3, help="of the tiny preset")
    arguments.add_argument("--turns", type=int, default=5)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"{HEADER}\n|{'---|' * HEADER.count(' | ')}---|")
    tiny_rows([], given.steps, given.turns)
    tiny_rows(["--kl.coef", "0.04"], 1, given.turns)
    smol_rows(given.turns)
