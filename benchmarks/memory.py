"""The memory plan against what real runs hold at their peak, on the CPU: `python benchmarks/memory.py`.

Each preset's settings, with its lengths divided by 8, on small random models of three architectures that are saved
in the real format: worst-case rollouts are sampled, and as many others in their rows, and one worst-case step trained,
while every event of torch's allocator is counted. A second table multiplies prompts per step and group size. Prints
both as Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from itertools import islice

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from expo_lite.config.read import read_request
from expo_lite.config.settings import Config
from expo_lite.memory.budget import workload_of
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.measure import peak_on_cpu, stored_bytes
from expo_lite.memory.plan import Units, plan_memory
from expo_lite.memory.shapes import find_shape
from expo_lite.model.policy import load_policy
from expo_lite.model.sampler import Sampler
from expo_lite.problems import draw_problems
from expo_lite.runs.assemble import assemble, build_optimizer, settle
from expo_lite.training.dry_pass import longest_requests, longest_sequences, without_end
from expo_lite.training.updater import Updater
from scripts.tiny_base.tokenizer import build_tokenizer

ARCHITECTURES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
# Hidden, heads, KV heads, head width, MLP width, layers, vocabulary; one shape for each preset, in its model's ratios.
SHAPES = {
    "8gb": (192, 6, 2, 32, 1120, 4, 2048),
    "12gb": (256, 8, 1, 32, 1376, 6, 4096),
    "16gb": (256, 4, 1, 64, 1344, 4, 3072),
    "24gb": (320, 5, 1, 64, 1728, 3, 4096),
    "colab-t4": (128, 4, 2, 32, 704, 8, 1024),
    "tiny": (128, 4, 2, 32, 384, 4, 64),
    "wide heads": (128, 16, 8, 16, 384, 4, 2048),  # the proportions of Qwen3-0.6B, in the 8gb preset
}
SHORTER = 8  # what a preset's lengths are divided by; the tiny preset's are short enough
WRITTEN = 4  # tokens of a completion that are really decoded
ROWS, CHUNK = 4, 64  # sequences in a micro-batch, and tokens of logits at once


@dataclass(frozen=True)
class Peaks:
    """Measured and planned bytes of generation and of training."""

    generation: int
    planned_generation: int
    training: int
    planned_training: int


def saved_model(folder: str, architecture: str, preset: str) -> str:
    """A random model of the preset's shape, in the format of the Hub."""
    hidden, heads, kv_heads, head_dim, mlp, layers, vocabulary = SHAPES[preset]
    make_config, make_model = ARCHITECTURES[architecture]
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = make_config(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=preset not in ("16gb", "24gb"),
    )
    make_model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def shortened(preset: str, model: str, flags: list[str]) -> Config:
    """The preset for this model on the CPU, with shorter prompts and completions."""
    name = "8gb" if preset == "wide heads" else preset
    given = ["--preset", name, "--policy.model", model, "--policy.device", "cpu", *flags]
    config = read_request(given, "benchmarks/memory.py").config
    rollout = config.rollout
    divisor = 1 if preset == "tiny" else SHORTER
    shorter = {name: getattr(rollout, name) // divisor for name in ("max_prompt_tokens", "max_new_tokens")}
    return config.model_copy(update={"rollout": rollout.model_copy(update=shorter)})


def measure(
    preset: str,
    architecture: str,
    dtype: str = "float32",
    rollouts: int = 12,
    per_prompt: int = 1,
    flags: tuple[str, ...] = (),
) -> Peaks:
    """`rollouts` at once, `per_prompt` of them with the same prompt, and a step of two micro-batches."""
    # What a GPU would do; only the tiny preset is for the CPU, and samples from dense weights there.
    given = ["--policy.dtype", dtype, *([] if preset == "tiny" else ["--rollout.dense-weights", "no"]), *flags]
    with tempfile.TemporaryDirectory() as folder:
        config = shortened(preset, saved_model(folder, architecture, preset), given)
        policy, shape = load_policy(config.policy, config.seed), find_shape(folder)
    workload, tokens = workload_of(config, shape, on_gpu=False), ROWS * config.sequence_tokens
    units = LiveUnits(rollouts, tokens, CHUNK)
    optimizer, scheduler = build_optimizer(policy, config.optimizer, config.steps)
    updater = Updater(config, policy, units, optimizer, scheduler)
    updater.update(longest_sequences(config, 1))  # the optimizer's averages exist from the first step on
    training = stored_bytes(policy.model, optimizer)
    training += peak_on_cpu(lambda: updater.update(longest_sequences(config, 2 * ROWS)))
    # The cache has its whole length from the first token on: long prompts with few tokens show the same peak, sooner.
    longer = {"max_prompt_tokens": config.sequence_tokens - WRITTEN, "max_new_tokens": WRITTEN}
    config = config.model_copy(update={"rollout": config.rollout.model_copy(update=longer)})
    sampler = Sampler(policy, units, workload.dense)
    requests = longest_requests(config, 2 * rollouts, per_prompt)  # half of them begin where the others have ended
    with without_end(policy):
        generation = peak_on_cpu(lambda: sampler.sample(requests, WRITTEN))
    generation += stored_bytes(policy.model, optimizer)
    prompts = len(longest_requests(config, rollouts, per_prompt))
    planned = Units(rollouts, prompts, longer["max_prompt_tokens"], WRITTEN, tokens, CHUNK)
    plan = plan_memory(shape, workload, planned)
    return Peaks(generation, plan.generation_peak, training, plan.training_peak)


def step_peak(prompts: int, group_size: int) -> tuple[int, int]:
    """Peak of one whole step of the tiny preset on hard problems, and the number of explanations trained on."""
    sizes = {"prompts-per-step": prompts, "group-size": group_size, "max-new-tokens": 64}
    flags = [text for name, value in sizes.items() for text in (f"--rollout.{name}", str(value))]
    flags += ["--memory.rollouts-alive", "16", "--memory.micro-batch-tokens", "160", "--memory.logprob-chunk", "64"]
    config = read_request(["--preset", "tiny", *flags], "benchmarks/memory.py").config
    with assemble(settle(config)) as parts:
        problems = list(islice(draw_problems(parts.problems.train, config.data.levels, 0, 0), prompts))
        trained = 0.0

        def step() -> None:
            nonlocal trained
            trained = parts.trainer.step(1, problems).metrics["explanations_trained"]

        return peak_on_cpu(step), int(trained)


def mib(size: int) -> str:
    """Bytes for a table."""
    return f"{size / 2**20:.1f}"


def plan_table(dtypes: list[str]) -> None:
    """Print the plan against what was measured."""
    print("| preset | architecture | type | generation MiB | plan / measured | training MiB | plan / measured |")
    print("|---|---|---|---|---|---|---|")
    for preset in SHAPES:
        for architecture in ARCHITECTURES:
            for dtype in dtypes:
                peaks = measure(preset, architecture, dtype)
                print(
                    f"| {preset} | {architecture} | {dtype} | {mib(peaks.generation)} | "
                    f"{peaks.planned_generation / peaks.generation:.3f} | {mib(peaks.training)} | "
                    f"{peaks.planned_training / peaks.training:.3f} |",
                    flush=True,
                )


def growth_table() -> None:
    """Print the peak of a step for 1 and 8 times the prompts and rollouts."""
    print("\n| prompts per step | group size | explanations trained on | peak MiB |\n|---|---|---|---|")
    for prompts, group_size in ((8, 8), (64, 8), (8, 64)):
        peak, trained = step_peak(prompts, group_size)
        print(f"| {prompts} | {group_size} | {trained} | {mib(peak)} |", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    arguments.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    plan_table(arguments.parse_args().dtypes)
    growth_table()
