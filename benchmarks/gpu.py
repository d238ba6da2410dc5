"""The presets on a real GPU, with random weights: `python benchmarks/gpu.py [--presets 8gb 24gb]`.

Each preset runs in a process of its own, capped at its budget: its model's shape is filled with random numbers,
saved, loaded in 4 bit as a run loads it, and sampling with all rows and two full micro-batches are timed; sampling
also with `rollout.cuda_graphs`. Peaks stand beside the plan's. No download is needed.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.profiler import profile
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from expo_lite.config.process_setup import avoid_fragments
from expo_lite.config.read import read_request
from expo_lite.config.settings import Config
from expo_lite.memory.budget import rollouts_per_prompt
from expo_lite.memory.halving import free_memory
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import KNOWN, ModelShape
from expo_lite.model.decode_step import Graphs
from expo_lite.runs.assemble import build_optimizer, open_model, settle
from expo_lite.training.dry_pass import longest_requests, longest_sequences, seconds_per_decoded_token, without_end
from expo_lite.training.updater import Updater
from scripts.tiny_base.tokenizer import build_tokenizer

PRESETS = ("8gb", "12gb", "16gb", "24gb", "colab-t4")
LAYER = re.compile(r"\.layers\.(\d+)\.")  # in the name of a weight, the number of its layer
DECODED = 64  # tokens that are timed
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
    "graphs_tokens_per_s",
    "graphs_gib",
    "trained_tokens_per_s",
)


def random_model(shape: ModelShape, folder: str) -> str:
    """A model of this shape with random 16-bit weights, in the format of the Hub, with a small tokenizer.

    A file for each layer, all with the same numbers: neither the card nor the computer ever holds the 16-bit model.
    """
    tokenizer = build_tokenizer()
    make = LlamaConfig if "llama" in shape.name.lower() else Qwen3Config if shape.qk_norm else Qwen2Config
    config = make(
        architectures=[f"{make.__name__.removesuffix('Config')}ForCausalLM"],
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
        dtype=torch.bfloat16,
    )
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_random_weights(config, Path(folder))
    return folder


def save_random_weights(config: PretrainedConfig, folder: Path) -> None:
    """Write what `AutoModelForCausalLM.from_pretrained` looks for: a safetensors file for each layer, and an index."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    left_out = set(model.all_tied_weights_keys) if config.tie_word_embeddings else set()
    names: dict[str, list[str]] = {}
    for name in model.state_dict():
        if name not in left_out:
            layer = LAYER.search(name)
            file = f"model-{int(layer[1]):03d}.safetensors" if layer else "model-ends.safetensors"
            names.setdefault(file, []).append(name)
    for file, held in names.items():
        torch.manual_seed(0)
        save_file({name: random_weight(name, model.state_dict()[name].shape) for name in held}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in names.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def random_weight(name: str, shape: torch.Size) -> torch.Tensor:
    """Numbers as transformers starts a model with: norms of ones, biases of zeros, else a normal of width 0.02."""
    if name.endswith("bias"):
        return torch.zeros(shape, dtype=torch.bfloat16)
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02)


def peak(device: torch.device, kind: str) -> float:
    """GiB `allocated` or `reserved` at the peak since the last reset; 0 without a GPU."""
    if device.type != "cuda":
        return 0.0
    most = torch.cuda.max_memory_reserved if kind == "reserved" else torch.cuda.max_memory_allocated
    return most(device) / GIB


def in_use(device: torch.device) -> float:
    """GiB in use on the GPU beside what torch has reserved: the context, and whatever other programs hold."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free - torch.cuda.memory_reserved(device)) / GIB


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
    settled = settle(config.model_copy(update={"policy": config.policy.model_copy(update={"model": model})}))
    config, device, planned = settled.config, settled.device, settled.planned
    policy, sampler, _ = open_model(settled)
    units = sampler.units
    optimizer, scheduler = build_optimizer(policy, config.optimizer, config.steps)
    updater = Updater(config, policy, units, optimizer, scheduler)
    before = in_use(device)

    def trained(rows: int) -> float:
        start = time.perf_counter()
        updater.update(longest_sequences(config, rows))
        return time.perf_counter() - start

    def decoded(tokens: int) -> float:
        start = time.perf_counter()
        with without_end(policy):
            sampler.sample(longest_requests(config, units.rollouts_alive, rollouts_per_prompt(config)), tokens)
        return time.perf_counter() - start

    trained(1)  # the optimizer's averages exist from here on
    reset_peak(device)
    rows = 2 * max(1, units.micro_batch_tokens // config.sequence_tokens)
    train_seconds = trained(rows)
    training, fragmentation = peak(device, "reserved"), peak(device, "reserved") / (peak(device, "allocated") or 1)
    with profile() as record:
        trained(1)
    kernels = {"training": attention_kernels(record)}
    prefill_seconds, decode_seconds = decoded(1), decoded(1 + DECODED)
    with profile() as record:
        decoded(2)
    kernels["generation"] = attention_kernels(record)
    reset_peak(device)
    seconds_per_decoded_token(config, sampler, sampler.units.rollouts_alive)
    generation = peak(device, "reserved")
    by_graphs, graphs_peak = 0.0, 0.0
    if device.type == "cuda":  # last, for what the driver keeps of graphs stays with the process
        sampler.graphs = Graphs()
        reset_peak(device)
        decoded(2)  # the first graph of a process is held beside a plain step
        first, both = decoded(1 + DECODED), decoded(1 + 2 * DECODED)  # each records its graphs anew
        by_graphs, graphs_peak = both - first, peak(device, "reserved")
    plan = planned.plan
    return {
        "preset": preset,
        "model": config.policy.model,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "halvings": units.halvings,
        "rollouts_alive": units.rollouts_alive,
        "micro_batch_tokens": units.micro_batch_tokens,
        "generation_gib": generation + before,
        "generation_plan": plan.generation_peak / GIB,
        "training_gib": training + before,
        "training_plan": plan.training_peak / GIB,
        "fragmentation": fragmentation,
        "context_gib": before,
        "decoded_tokens_per_s": DECODED * units.rollouts_alive / max(1e-9, decode_seconds - prefill_seconds),
        "graphs_tokens_per_s": DECODED * units.rollouts_alive / by_graphs if by_graphs > 0 else 0.0,
        "graphs_used": sampler.graphs.usable and sampler.graphs.proven,
        "graphs_gib": graphs_peak + before if graphs_peak else 0.0,
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
        result = run(preset, config, random_model(shape, folder))
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
    avoid_fragments()  # as every entry point does; the processes inherit it
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
