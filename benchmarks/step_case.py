"""What both sides of `benchmarks/step.py` are asked for, and what they measure.

P problems a step, G completions of exactly T tokens of each (no token ends one), judged by the same verifier through a
reward function of TRL's signature. What it returns is scripted: rewards that alternate, so that groups have signal,
and zeros for the groups that are to fail.
"""

from __future__ import annotations

import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import random_model
from expo_lite.config.model_files import SMOL, TINY
from expo_lite.config.read import read_request
from expo_lite.config.settings import Config
from expo_lite.core.records import Problem
from expo_lite.grading.verifier import Verifier
from expo_lite.memory.budget import CPU_BUDGET_GIB
from expo_lite.memory.shapes import KNOWN, ModelShape, find_shape
from expo_lite.problems import tiny_world

SIDES = ("trl", "grpo", "expo")
QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
RANDOM = {
    "random-135m": KNOWN[SMOL],
    "random-152k": replace(KNOWN[QWEN], name=f"two layers of {QWEN}", layers=2),
}
"""Shapes that are filled with random numbers, with the tiny base's tokenizer."""
MODELS = (TINY, SMOL, *RANDOM)
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Case:
    """What one process is to do. `failed` counts the groups that earn nothing; of `steps` the first is not timed."""

    side: str
    model: str = TINY
    source: str = TINY  # what is loaded: the model by its name, or the folder of a random one
    prompts: int = 16
    group: int = 8
    tokens: int = 40
    failed: int = 0
    steps: int = 4
    threads: int = 1
    dtype: str = "float32"
    quantization: str = "none"  # of this project's side; TRL's base is never quantised
    micro_batch: int = 16  # sequences in a pass of training, on both sides, at most
    trl: dict[str, Any] = field(default_factory=dict)  # further settings of GRPOConfig

    @property
    def rollouts(self) -> int:
        """Completions of a step."""
        return self.prompts * self.group

    @property
    def at_once(self) -> int:
        """Sequences in a pass of training, of which TRL wants a whole number in a step."""
        return math.gcd(self.micro_batch, self.rollouts)


@dataclass
class Measured:
    """What a process has measured: seconds of the timed steps, tokens of a step, MiB of memory."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of this process; other programs change them less
    generating: list[float] = field(default_factory=list)  # of `seconds`
    first_step: float = 0.0  # from the process's start, with imports and loading
    prompt_tokens: float = 0.0  # of all rollouts; those of explanations are left out
    generated: float = 0.0
    trained: float = 0.0  # completion tokens that went through the training pass
    model_mib: float = 0.0  # more resident after loading than before
    loaded_mib: float = 0.0  # resident after loading
    peak_mib: float = 0.0  # most resident from then on
    settings: str = ""


class Stopwatch:
    """Notes the steps of a process that was started at `started`; the first is none of the timed ones."""

    def __init__(self, measured: Measured, started: float) -> None:
        self.measured = measured
        self.started = started
        self.generating = 0.0

    def start(self) -> None:
        """A step begins."""
        self.began, self.cpu, self.generating = time.perf_counter(), time.process_time(), 0.0

    def stop(self) -> None:
        """It ends."""
        now = time.perf_counter()
        if not self.measured.first_step:
            self.measured.first_step = time.time() - self.started
            return
        self.measured.seconds.append(now - self.began)
        self.measured.cpu_seconds.append(time.process_time() - self.cpu)
        self.measured.generating.append(self.generating)


@contextmanager
def source_of(model: str) -> Iterator[str]:
    """What to load: a model by name, or a folder that is filled with random numbers meanwhile."""
    if model not in RANDOM:
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        yield random_model(RANDOM[model], folder)


def shape_of(model: str) -> ModelShape:
    """The sizes of the model of a case."""
    return RANDOM.get(model) or find_shape(model)


def config_of(case: Case) -> Config:
    """This project's configuration: the tiny preset's, with the default prompts for a model that knows language."""
    flags = {
        "policy.model": case.source,
        "policy.dtype": case.dtype,
        "policy.quantization": case.quantization,
        "rollout.prompts-per-step": case.prompts,
        "rollout.group-size": case.group,
        "rollout.temperature": 1.0,
        "rollout.max-prompt-tokens": 32 if case.model != SMOL else 128,
        "rollout.max-new-tokens": case.tokens,
        "explanation.source": "self" if case.side == "expo" else "none",
        "explanation.filters": "[]",  # an explanation that was not let end passes none
        "reward.messages": "true",  # as TRL hands over of chat data
        "optimizer.learning-rate": LEARNING_RATE,
        "memory.budget-gib": CPU_BUDGET_GIB,
        "threads": case.threads,
    }
    defaults = Config().prompt
    if case.model == SMOL:
        flags |= {"prompt.task": defaults.task, "prompt.hinted": defaults.hinted}
    given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    return read_request(["--preset", "tiny", *given], "benchmarks/step.py").config


def problems_of(case: Case) -> list[list[Problem]]:
    """The problems of each step; sums of two numbers, so that prompts are about equally long."""
    found = tiny_world.problems("train", 1, case.prompts * case.steps)
    return [found[first : first + case.prompts] for first in range(0, len(found), case.prompts)]


def scripted_reward(case: Case, verifier: Verifier) -> Callable[..., list[float]]:
    """Judges every completion, and returns what the case asks for instead."""

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float]:
        verifier.judge([(gold, said[-1]["content"]) for gold, said in zip(answer, completions, strict=True)])
        return [float(row // case.group >= case.failed and row % 2) for row in range(len(completions))]

    return reward


def resident_mib(highest: bool = False) -> float:
    """MiB that this process holds now, or held at most since `forget_peak`."""
    name = "VmHWM:" if highest else "VmRSS:"
    status = Path("/proc/self/status")
    if not status.exists():  # no Linux: the most since the process began, in bytes on macOS
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """Count the highest mark from here on, where the system lets us: loading may hold a model twice."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
