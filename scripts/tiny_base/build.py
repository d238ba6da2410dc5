"""Train the base that ships in the package: `python -m scripts.tiny_base.build`.

A Qwen2 model of 0.8M parameters, from scratch, on one mixture of texts (`MIXTURE`). It ends knowing
how to solve easy levels and how to explain any told answer, but not how to solve hard levels. The
same machine and thread count give the same weights.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from expo_lite.config import process_setup
from expo_lite.config.model_files import tiny_base
from expo_lite.config.presets import preset_path
from expo_lite.config.read import read_config
from expo_lite.config.settings import Config, OptimizerConfig
from expo_lite.model.prompts import Prompts
from expo_lite.problems import tiny_world
from expo_lite.runs.assemble import rate_factor
from scripts.tiny_base.quality import quality_table
from scripts.tiny_base.tokenizer import END, PAD, build_tokenizer

SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 384,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
# Share of each kind of text by level. Expert solutions of hard levels are never seen, but enough of the
# easy ones that the base can follow the style. Careful solutions of hard levels appear under a hint only.
MIXTURE = {
    "own": (0.12, 0.12, 0.13, 0.0, 0.0),
    "careless": (0.0, 0.0, 0.0, 0.07, 0.07),
    "expert": (0.015, 0.015, 0.02, 0.0, 0.0),
    "explanation": (0.05, 0.07, 0.09, 0.11, 0.14),
}
LEAKING_SHARE, SKIPPING_SHARE = 0.1, 0.1  # of the explanations
STEPS, WARMUP_STEPS, BATCH, PARTS = 1800, 50, 128, 4
LEARNING_RATE, BETAS, WEIGHT_DECAY, MAX_GRAD_NORM = 3e-3, (0.9, 0.98), 0.01, 1.0

Example = tuple[list[int], list[int]]


class Corpus:
    """An endless, seeded stream of (prompt ids, completion ids)."""

    def __init__(self, prompts: Prompts, seed: int) -> None:
        self.prompts = prompts
        self.rng = random.Random(f"tiny base {seed}")
        self.operands = {level: tiny_world.draw_operands(self.rng, "train", level) for level in tiny_world.LEVELS}
        cells = [(kind, level, share) for kind, shares in MIXTURE.items() for level, share in enumerate(shares, 1)]
        self.cells = [(kind, level) for kind, level, _ in cells]
        self.shares = [share for _, _, share in cells]

    def example(self) -> Example:
        """One text of the mixture, under the prompt that goes with it."""
        kind, level = self.rng.choices(self.cells, self.shares)[0]
        operands = next(self.operands[level])
        problem = tiny_world.problem(operands)
        prompt = self.prompts.hinted(problem) if kind == "explanation" else self.prompts.task(problem)
        return prompt, self.prompts.completion(self.text(kind, operands))

    def text(self, kind: str, operands: tiny_world.Operands) -> str:
        """A completion of one kind."""
        if kind == "own":
            return tiny_world.own_solution(operands)
        if kind == "careless":
            return tiny_world.careless_solution(operands, self.rng)
        if kind == "expert":
            return tiny_world.expert_solution(operands)
        dice = self.rng.random()
        if dice < LEAKING_SHARE:
            return tiny_world.leaking_explanation(operands, self.rng)
        if dice < LEAKING_SHARE + SKIPPING_SHARE:
            return tiny_world.skipping_explanation(operands, self.rng)
        return tiny_world.own_solution(operands)


@dataclass(frozen=True)
class Batch:
    """Right-padded ids (B, T) and labels (B, T), -100 where nothing is learned: prompt and padding."""

    input_ids: Tensor
    labels: Tensor


def batches(examples: Sequence[Example]) -> Iterator[Batch]:
    """Examples sorted by length and cut into parts, each padded to its own longest."""
    rows = sorted(examples, key=lambda example: len(example[0]) + len(example[1]))
    size = len(rows) // PARTS
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        width = max(len(prompt) + len(completion) for prompt, completion in part)
        input_ids = torch.zeros((len(part), width), dtype=torch.long)
        labels = torch.full((len(part), width), -100)
        for row, (prompt, completion) in enumerate(part):
            end = len(prompt) + len(completion)
            input_ids[row, :end] = torch.tensor(prompt + completion)
            labels[row, len(prompt) : end] = torch.tensor(completion)
        yield Batch(input_ids, labels)


def train_base(model: Qwen2ForCausalLM, corpus: Corpus, steps: int, console: Console) -> list[float]:
    """Next-token training on completions; returns the loss of each step, in nats per token."""
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY)
    schedule = OptimizerConfig(schedule="cosine", warmup_steps=WARMUP_STEPS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(schedule, step, steps))
    losses = []
    for _ in track(range(steps), "Training the base", console=console, transient=True):
        step_batches = list(batches([corpus.example() for _ in range(BATCH)]))
        tokens = sum(int((batch.labels != -100).sum()) for batch in step_batches)
        losses.append(0.0)
        for batch in step_batches:
            logits = model(input_ids=batch.input_ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum"
            )
            (loss / tokens).backward()
            losses[-1] += loss.item() / tokens
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return losses


def save_base(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Weights in bfloat16, and a tokenizer that AutoTokenizer loads as it is."""
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def build(folder: Path, seed: int, steps: int, threads: int, console: Console) -> None:
    """Train, save, measure, and write the record (build.json) beside the weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    config = read_config(preset_path("tiny"))
    tokenizer = build_tokenizer()
    end, pad = (tokenizer.get_vocab()[token] for token in (END, PAD))
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=32, eos_token_id=end, pad_token_id=pad, **SHAPE))
    start = time.perf_counter()
    losses = train_base(model, Corpus(Prompts(tokenizer, config.prompt), seed), steps, console)
    seconds = time.perf_counter() - start
    save_base(model, tokenizer, folder)
    table, rows = quality_table(Config.model_validate(with_model(config, folder)))
    record = {
        "seed": seed,
        "threads": threads,
        "steps": steps,
        "batch": BATCH,
        "mixture": MIXTURE,
        "leaking_share": LEAKING_SHARE,
        "skipping_share": SKIPPING_SHARE,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_seconds": round(seconds),
        "loss_nats_per_token": {str(i + 1): round(losses[i], 4) for i in range(0, steps, 100)}
        | {"last": round(losses[-1], 4)},
        "quality": rows,
        "torch": torch.__version__,
    }
    (folder / "build.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(table)
    console.print(f"{folder}: {record['parameters']:,} parameters, {seconds:.0f} s", highlight=False)


def with_model(config: Config, folder: Path) -> dict:
    """The configuration with another base."""
    values = config.model_dump()
    values["policy"]["model"] = str(folder)
    return values


def main(argv: list[str] | None = None) -> int:
    """Build as the command line says and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.tiny_base.build", description=__doc__)
    parser.add_argument("--to", type=Path, default=tiny_base(), help="folder for weights, tokenizer and record")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps (default {STEPS})")
    parser.add_argument("--threads", type=int, default=1, help="the weights depend on it (default 1)")
    args = parser.parse_args(argv)

    def body() -> None:
        build(args.to, args.seed, args.steps, args.threads, Console())

    return process_setup.run(body)


if __name__ == "__main__":
    sys.exit(main())
