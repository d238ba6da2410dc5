"""The promise of the tiny preset, for real: hard levels climb from 0, and plain GRPO stands still."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import Qwen2Config, Qwen2ForCausalLM

from expo_lite.config.presets import preset_path
from expo_lite.config.read import read_config, read_request
from expo_lite.model.prompts import Prompts
from expo_lite.runs.folder import EVAL, METRICS, RunDir
from expo_lite.runs.session import train
from scripts.tiny_base.build import SHAPE, Corpus, train_base
from scripts.tiny_base.tokenizer import build_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUIET = Console(quiet=True)


def run(folder: Path, source: str) -> RunDir:
    small = ["--steps", "50", "--data.test-problems", "32", "--data.validation-problems", "8"]
    flags = ["--preset", "tiny", "--run", str(folder), "--explanation.source", source, *small]
    assert train(read_request(flags), QUIET) == 0
    return RunDir(folder)


def pass_at_1(run: RunDir, name: str) -> dict[int, float]:
    (record,) = [r for r in run.read(EVAL) if r["name"] == name]
    return {score["level"]: score["pass_at_1"]["mean"] for score in record["levels"]}


def test_self_explanations_teach_the_hard_levels(tmp_path: Path) -> None:
    finished = run(tmp_path / "self", "self")
    before, after = pass_at_1(finished, "base_test"), pass_at_1(finished, "test")
    for level in (4, 5):
        assert before[level] < 0.02 and after[level] > 0.6
    assert min(after[level] for level in (1, 2, 3)) > 0.8
    assert sum(record["explanations_rejected_leak"] for record in finished.read(METRICS)) > 0


def test_plain_grpo_stands_still_on_them(tmp_path: Path) -> None:
    finished = run(tmp_path / "none", "none")
    after = pass_at_1(finished, "test")
    assert max(after[4], after[5]) < 0.05
    assert sum(record["groups_with_signal"] for record in finished.read(METRICS)[-10:]) < 40  # of 160


def test_the_base_builds_the_same_twice() -> None:
    torch.set_num_threads(1)
    prompts = Prompts(build_tokenizer(), read_config(preset_path("tiny")).prompt)

    def built() -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=32, **SHAPE))
        losses = train_base(model, Corpus(prompts, seed=0), 3, QUIET)
        return losses, torch.cat([p.detach().flatten() for p in model.parameters()])

    (losses, weights), (again, same_weights) = built(), built()
    assert losses == again and torch.equal(weights, same_weights)
    assert losses[0] > losses[-1]
