"""A whole run on chats of several turns, with a model whose template has a system role: what is asked and recorded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.small_hub import ANSWERS, save_model, tokenizer
from support.whole_runs import resume, start

from expo_lite.commands import doctor, evaluate
from expo_lite.commands.app import held_out
from expo_lite.commands.train import main
from expo_lite.config.read import read_config
from expo_lite.model.sampler import Sampler, SampleRequest
from expo_lite.runs.folder import SAMPLES, RunDir

SYSTEM = "You are terse."


def row(number: int, system: str | None = None) -> dict[str, Any]:
    turns = [("system", system)] if system else []
    turns += [("user", f"Take {number}."), ("assistant", "Taken."), ("user", "How many are they?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"messages": messages, "answer": ANSWERS[number % len(ANSWERS)]}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chats")
    save_model(folder / "base", tied=False)
    rows = [row(n, "Be brief." if n % 2 else None) for n in range(40)]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "steps": 2,
        "policy": {"model": str(folder / "base"), "lora_rank": 4, "quantization": "none"},
        "prompt": {"system": SYSTEM, "task": "{question} Box it.", "hinted": "{question} It is {answer}."},
        "rollout": {"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 16, "max_prompt_tokens": 200},
        "data": {"source": str(folder / "data.jsonl"), "validation_problems": 2, "test_problems": 4, "levels": {1: 1}},
        "evaluation": {"every": 2, "samples": 2},
        "checkpoint": {"every": 1},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    return folder / "settings.yaml"


def prompts_of(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Every prompt that the sampler is asked to go on from."""
    asked: list[list[int]] = []
    sample = Sampler.sample

    def listening(self: Sampler, requests: Sequence[SampleRequest], *rest: Any, **more: Any) -> Any:
        asked.extend(request.prompt_ids for request in requests)
        return sample(self, requests, *rest, **more)

    monkeypatch.setattr(Sampler, "sample", listening)
    return asked


def test_a_run_on_chats(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The model reads every turn, the records show them, and the other commands read the run."""
    asked, folder = prompts_of(monkeypatch), config.parent / "run"
    status, shown = start(config, folder, "--steps", "1")
    assert status == 0
    assert "20 problems have a system turn of their own, in place of prompt.system." in shown
    words, texts = tokenizer(), set()
    for number in range(40):
        for said in ("How many are they? Box it.", *(f"How many are they? It is {answer}." for answer in ANSWERS)):
            turns = row(number, "Be brief." if number % 2 else SYSTEM)["messages"]
            chat = [*turns[:-1], {"role": "user", "content": said}]
            texts.add(words.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    found = {
        text for ids in asked if (text := str(words.decode(ids))).startswith("<|im_start|>")
    }  # others: the dry pass
    assert found <= texts and any("It is" in text for text in found) and any(SYSTEM in text for text in found)

    samples = list(RunDir(folder).read(SAMPLES))
    assert {sample["question"] for sample in samples} == {"How many are they?"}
    assert {sample["turns"][-1]["content"] for sample in samples} == {"Taken."}
    assert {sample["turns"][0]["role"] for sample in samples} == {"system", "user"}

    assert resume(folder, "--steps", "2")[0] == 0
    assert doctor.main([str(folder)]) in (0, 1)
    assert evaluate.main([str(folder), "--problems", "2", "--k", "1", "--to", str(config.parent / "scores")]) == 0
    assert "pass@1" in capsys.readouterr().out


def test_refused_by_the_template(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row by its line, and no traceback."""
    other = config.parent / "other"
    shutil.copytree(config.parent / "base", other)
    (other / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}?"
    )  # as Gemma's
    flags = ["--preset", "tiny", "--config", str(config), "--run", str(config.parent / "refused")]
    model = ["--policy.model", str(other), "--data.test-problems", "1"]
    assert main([*flags, *model, "--prompt.system", "null"]) == 2
    said = capsys.readouterr().err
    assert re.search(r"data\.jsonl:\d+: the chat template .* \(system, user, .*\): System role not supported", said)
    assert "Traceback" not in said


def test_the_app_does_not_ask_half_of_a_chat(config: Path) -> None:
    assert held_out(read_config(config)) == {}
