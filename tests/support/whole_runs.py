"""Whole runs of a few steps on a small random base, and what two of them share."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from expo_lite.config.read import read_request
from expo_lite.runs.folder import RunDir
from expo_lite.runs.session import train
from support.tiny_models import save_base

SETTINGS = {
    "steps": 4,
    "seed": 3,
    "policy": {"lora_rank": 4},
    "rollout": {"prompts_per_step": 3, "group_size": 2, "max_new_tokens": 17},
    "data": {"validation_problems": 2, "test_problems": 2, "levels": {1: 1}},  # with solutions of 17 tokens
    "evaluation": {"every": 3, "samples": 2},
    "checkpoint": {"every": 2, "keep": 1},
    "explanation": {"source": "expert"},  # a random model explains nothing
    "kl": {"coef": 0.1},  # so that its rollouts are trained on although all are wrong
    "optimizer": {"learning_rate": 0.01, "schedule": "linear", "warmup_steps": 1},
}


def write_settings(folder: Path, **more: Any) -> Path:
    """A file of settings that name a saved random base; `more` replaces whole sections."""
    model = str(save_base(folder / "base"))
    settings = {**SETTINGS, "policy": {**SETTINGS["policy"], "model": model}, **more}  # type: ignore[dict-item]
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return folder / "settings.yaml"


def start(config: Path, folder: Path, *flags: str) -> tuple[int, str]:
    return run(["--preset", "tiny", "--config", str(config), "--run", str(folder), *flags])


def undisturbed_run(config: Path) -> Path:
    """The folder of a run from its first step to its last, beside its settings."""
    folder = config.parent / "undisturbed"
    assert start(config, folder)[0] == 0
    return folder


def resume(folder: Path, *flags: str) -> tuple[int, str]:
    return run(["--resume", "--run", str(folder), *flags])


def run(argv: Sequence[str]) -> tuple[int, str]:
    """Exit status and what was shown."""
    shown = io.StringIO()
    return train(read_request(list(argv)), Console(file=shown, width=200)), shown.getvalue()


def results(folder: Path) -> dict[str, Any]:
    """All that two runs with the same settings share, to the bit."""
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "metrics": [{k: v for k, v in step.items() if not k.endswith("_seconds")} for step in metrics],
        "samples": (folder / "samples.jsonl").read_bytes(),
        "eval": (folder / "eval.jsonl").read_bytes(),
        "adapter": (folder / "adapter" / "adapter_model.safetensors").read_bytes(),
        "last": (folder / "checkpoints" / "step_000004" / "adapter" / "adapter_model.safetensors").read_bytes(),
        "progress": (folder / "checkpoints" / "step_000004" / "progress.json").read_bytes(),
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
    }


def steps(folder: Path) -> list[int]:
    return [record["step"] for record in RunDir(folder).read("metrics.jsonl")]


# Runs a command line, and sends itself a signal once a step is recorded.
INTERRUPTED_RUN = """
import os, signal, sys
from expo_lite.commands import train
from expo_lite.problems import load
from expo_lite.runs import loop

load.TRAIN_PROBLEMS = 40  # as the tests around it

def main(number, step, argv):
    record = loop.Loop.record
    def record_and_signal(self, report):
        record(self, report)
        if report.step == int(step):
            os.killpg(0, int(number)) if int(number) == signal.SIGINT else os.kill(os.getpid(), int(number))
    loop.Loop.record = record_and_signal
    sys.exit(train.main(argv))

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
"""
