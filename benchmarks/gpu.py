"""The presets on a real GPU, with random weights: `python benchmarks/gpu.py [--presets 8gb 24gb]`.

Each preset runs in a process of its own, capped at its budget: its model's shape is filled with random numbers,
saved, loaded in 4 bit as a run loads it, and one full wave and two full micro-batches are timed. Peaks stand beside
the plan's; `docs/gpu-results.md` keeps the tables that were made on real cards. No download is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # as every entry point does

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

from expo_lite.assemble import build_optimizer
from expo_lite.config import Config
from expo_lite.config_reader import read_request
from expo_lite.memory.budget import budgeted_plan
from expo_lite.memory.cap import apply_budget
from expo_lite.memory.oom import free_memory
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import KNOWN, ModelShape, find_shape
from expo_lite.policy import load_policy, resolve_device
from expo_lite.sampler import Sampler, SampleRequest
from expo_lite.tiny.tokenizer import build_tokenizer
from expo_lite.types import TrainingSequence
from expo_lite.updater import Updater

PRESETS = ("8gb", "12gb", "16gb", "24gb", "colab-t4")
DECODED = 64  # tokens that are timed; the cache has its whole length from the first one on
ATTENTION_NAMES = ("flash", "fmha", "efficient_attention", "cudnn", "sdpa", "attention")
COLUMNS = (
    "preset",
    "model",
    "generation_gib",
    "generation_plan",
    "training_gib",
    "training_plan",
    "fragmentation",
    "context_gib",
    "decoded_tokens_per_s",
    "trained_tokens_per_s",
)


def random_model(shape: ModelShape, folder: str, device: torch.device) -> str:
    """A model of this shape with random 16-bit weights, in the format of the Hub, with a small tokenizer."""
    tokenizer = build_tokenizer()
    make = LlamaConfig if "llama" in shape.name.lower() else Qwen3Config if shape.qk_norm else Qwen2Config
    config = make(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.mlp,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32768,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model
    free_memory()
    return folder


def peak(device: torch.device, kind: str) -> float:
    """GiB `allocated` or `reserved` at the peak since the last reset; 0 without a GPU."""
    if device.type != "cuda":
        return 0.0
    return getattr(torch.cuda, f"max_memory_{kind}")(device) / GIB


def reset_peak(device: torch.device) -> None:
    """Start a new peak."""
    free_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def attention_kernels(record: profile) -> list[str]:
    """Names of kernels and operators that compute attention."""
    names = {event.key for event in record.key_averages()}
    return sorted(name for name in names if any(part in name.lower() for part in ATTENTION_NAMES))


def run(preset: str, config: Config, model: str) -> dict[str, object]:
    """All figures of one preset on the model in a folder."""
    device = resolve_device(config.policy.device)
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"model": model})})
    units = apply_budget(config, device)
    policy = load_policy(config.policy, config.seed, config.sequence_tokens)
    policy.end_ids = []
    optimizer, scheduler = build_optimizer(policy, config.optimizer, config.steps)
    updater = Updater(config, policy, units, optimizer, scheduler)
    sampler = Sampler(policy, units)
    budget = config.memory.budget_gib or torch.cuda.get_device_properties(device).total_memory / GIB
    plan = budgeted_plan(config, find_shape(model), budget, on_gpu=device.type == "cuda").plan
    rollout, activities = config.rollout, [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)

    def trained(rows: int) -> float:
        ids = [5] * rollout.max_prompt_tokens, [6] * rollout.max_new_tokens
        start = time.perf_counter()
        updater.update([TrainingSequence(*ids, 1.0, 1e-6, 0.0, [0.0] * rollout.max_new_tokens)] * rows)
        return time.perf_counter() - start

    def decoded(tokens: int) -> float:
        prompt = [5] * (config.sequence_tokens - tokens)
        requests = [SampleRequest(prompt, 1, ("gpu", row)) for row in range(units.rollouts_alive)]
        start = time.perf_counter()
        sampler.sample(requests, tokens)
        return time.perf_counter() - start

    trained(1)  # the optimizer's averages exist from here on
    reset_peak(device)
    rows = 2 * max(1, units.micro_batch_tokens // config.sequence_tokens)
    train_seconds = trained(rows)
    training, fragmentation = peak(device, "reserved"), peak(device, "reserved") / (peak(device, "allocated") or 1)
    with profile(activities=activities) as record:
        trained(1)
    kernels = {"training": attention_kernels(record)}
    reset_peak(device)
    prefill_seconds, decode_seconds = decoded(1), decoded(DECODED)
    generation = peak(device, "reserved")
    with profile(activities=activities) as record:
        decoded(2)
    kernels["generation"] = attention_kernels(record)
    context = 0.0
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        context = (total - free - torch.cuda.memory_reserved(device)) / GIB
    return {
        "preset": preset,
        "model": config.policy.model,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "halvings": units.halvings,
        "rollouts_alive": units.rollouts_alive,
        "micro_batch_tokens": units.micro_batch_tokens,
        "generation_gib": generation + context,
        "generation_plan": plan.generation_peak / GIB,
        "training_gib": training + context,
        "training_plan": plan.training_peak / GIB,
        "fragmentation": fragmentation,
        "context_gib": context,
        "decoded_tokens_per_s": (DECODED - 1) * units.rollouts_alive / max(1e-9, decode_seconds - prefill_seconds),
        "trained_tokens_per_s": rows * config.sequence_tokens / train_seconds,
        "attention": kernels,
    }


def table(results: list[dict[str, object]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for result in results:
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in map(result.get, COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def one(preset: str, scratch: str) -> None:
    """Run one preset in this process and print its figures as JSON."""
    config = read_request(["--preset", preset], "benchmarks/gpu.py").config
    shape = KNOWN[config.policy.model]
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        result = run(preset, config, random_model(shape, folder, resolve_device(config.policy.device)))
    print(json.dumps({**result, "model": shape.name}))


def main() -> int:
    """Every preset in a process of its own, for the cap and the context are a process's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--scratch", default=tempfile.gettempdir(), help="where 16-bit random weights fit (16 GB)")
    parser.add_argument("--out", type=Path, help="also write all figures here, as JSON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.presets[0], given.scratch)
        return 0
    results, failed = [], 0
    for preset in given.presets:
        command = [sys.executable, __file__, "--one", "--presets", preset, "--scratch", given.scratch]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            failed += 1
            print(f"{preset}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
            continue
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{preset}: attention kernels {results[-1]['attention']}", file=sys.stderr)
    print(table(results))
    if given.out:
        given.out.write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
