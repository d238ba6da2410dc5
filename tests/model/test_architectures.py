"""Small random models of each family, saved as the Hub holds them, through the real command line and the presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.tiny_models import ARCHITECTURES, save_base
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from expo_lite.commands import train
from expo_lite.runs.folder import RunDir
from expo_lite.runs.loop import Loop
from expo_lite.training.step import StepReport

pytestmark = pytest.mark.slow

STEPS = 4
SMALL = {
    "policy.device": "cpu", "policy.lora-rank": 4, "threads": 1, "steps": STEPS,
    "rollout.prompts-per-step": 2, "rollout.group-size": 2, "rollout.max-new-tokens": 17, "data.levels": "1=1",
    "data.validation-problems": 1, "data.test-problems": 1, "evaluation.samples": 1, "evaluation.every": 3,
    "checkpoint.every": 2, "optimizer.learning-rate": 0.01, "optimizer.warmup-steps": 1,
    "explanation.source": "expert", "kl.coef": 0.1,  # a random model explains nothing and is never right
}  # fmt: skip
SPECIAL = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token, as in the families' own tokenizers before any merge; with a ChatML template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=["<|im_start|>"], **SPECIAL)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def byte_base(folder: Path, architecture: str) -> Path:
    """A random model of 259 tokens with such a tokenizer."""
    tokenizer = byte_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, "eos_token_id": tokenizer.eos_token_id}
    save_base(folder, architecture, **sizes)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of problems at five levels."""
    rows = [
        {"question": f"What is {a} + {b}?", "answer": f"{a + b}", "level": 1 + b, "solution": f"\\boxed{{{a + b}}}"}
        for a in range(10, 20)
        for b in range(5)
    ]
    path = tmp_path_factory.mktemp("data") / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def results(folder: Path) -> dict[str, Any]:
    """What two runs with the same settings share."""
    run = RunDir(folder)
    timeless = [{k: v for k, v in step.items() if not k.endswith("_seconds")} for step in run.read("metrics.jsonl")]
    return {"metrics": timeless, "samples": run.read("samples.jsonl"), "eval": run.read("eval.jsonl")}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("preset", ["tiny", "8gb", "24gb"])
def test_train_evaluate_stop_and_resume(
    preset: str, architecture: str, problems: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    base = (save_base if preset == "tiny" else byte_base)(tmp_path / "base", architecture)
    settings = SMALL | {"policy.model": base} | ({} if preset == "tiny" else {"data.source": problems})
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    record = Loop.record

    def record_and_stop(self: Loop, report: StepReport) -> None:
        record(self, report)
        self.stop.asked = report.step == 1

    assert train.main(["--preset", preset, *flags, "--run", str(whole)]) == 0
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert "Held-out problems, " in shown.out  # the table
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "record", record_and_stop)
        assert train.main(["--preset", preset, *flags, "--run", str(broken)]) == 130
    assert train.main(["--resume", "--run", str(broken)]) == 0

    assert results(broken) == results(whole)
    assert [step["updates"] for step in results(whole)["metrics"]] == [1] * STEPS
    adapters = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, broken)]
    assert any(tensor.abs().max() > 0 for name, tensor in adapters[0].items() if "lora_B" in name)
    assert all(torch.equal(tensor, adapters[1][name]) for name, tensor in adapters[0].items())
