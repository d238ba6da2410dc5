"""`expo-lite export`: merged numbers, answers after loading elsewhere, what is refused, and the upload."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, constants
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import small_hub
from support.exports import exported, make_run, store_as
from support.hub_stand_in import HubStandIn, serving_hub
from support.tiny_models import save_base
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from expo_lite.commands import evaluate, export, train
from expo_lite.config.read import read_config
from expo_lite.config.settings import PromptConfig
from expo_lite.core.records import Problem
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS
from expo_lite.model.plain_chat import TEMPLATE
from expo_lite.model.prompts import Prompts
from expo_lite.runs.export import folders
from expo_lite.runs.files import sha256
from expo_lite.runs.folder import ADAPTER_DIGEST, RunDir

pytestmark = pytest.mark.usefixtures("few_tiny_problems")

PROMPTS = ["12+34?", "7+8+9?", "55+5+1?", "1+2+3+4?"]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A finished run over a base in bfloat16."""
    return make_run(tmp_path / "run", store_as(save_base(tmp_path / "base"), torch.bfloat16))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny preset, two steps on expert solutions, that has moved."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    flags = "--steps 2 --evaluation.every 2 --evaluation.samples 1 --explanation.source expert --data.levels 4=1"
    flags += " --data.validation-problems 2 --data.test-problems 2 --rollout.prompts-per-step 4"
    assert train.main(["--preset", "tiny", *flags.split(), "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What an export that must not happen says; nothing of it stays behind."""

    def refused(run: RunDir, *flags: str) -> str:
        to = tmp_path / "places" / "out"
        assert export.main([str(run.path), "--to", str(to), *flags]) == 2
        assert not to.exists() and not (to.parent.exists() and any(to.parent.iterdir()))
        return capsys.readouterr().err

    return refused


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in folder.glob("model*.safetensors") for name, tensor in load_file(path).items()}


def merged_by_peft(base: Path, adapter: Path) -> dict[str, Tensor]:
    """In float32, with other code than the package's."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    return model.merge_and_unload().state_dict()


def answers(model: Any, folder: Path) -> list[list[int]]:
    """Greedy continuations by plain transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for prompt in PROMPTS:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt"
        )
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False, pad_token_id=0)
        found.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    return found


@torch.no_grad()
def share_of_other_tokens(model: Any, reference: Any, texts: list[list[int]], gap: float) -> float:
    """How often a model likes another next token best in the reference's texts.

    Places where the reference's best two are nearer than `gap` (nats) do not count: rounding decides there.
    """
    other = clear = 0
    for ids in map(torch.tensor, texts):
        (ours,), (theirs,) = model(ids[None]).logits, reference(ids[None]).logits
        best = theirs.topk(2)
        counts = best.values[:, 0] - best.values[:, 1] > gap
        other += int((ours.argmax(-1) != best.indices[:, 0])[counts].sum())
        clear += int(counts.sum())
    assert clear > 15
    return other / clear


def opened(base: Path, adapter: Path | None = None) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter) if adapter else model


class TestMerged:
    @pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
    @pytest.mark.parametrize("tied", [True, False])
    def test_numbers_and_answers(self, tmp_path: Path, architecture: str, tied: bool) -> None:
        base = store_as(save_base(tmp_path / "base", architecture, tie_word_embeddings=tied), torch.bfloat16)
        run = make_run(tmp_path / "run", base)
        out = exported(run, tmp_path / "out", "--merged")
        expected, before, found = merged_by_peft(base, run.adapter), tensors(base), tensors(out)
        assert found.keys() == before.keys() and ("lm_head.weight" in found) is not tied
        for name, tensor in found.items():
            assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, expected[name].bfloat16()), name
        changed = {name.rpartition(".")[0] for name in found if not torch.equal(found[name], before[name])}
        assert len(changed) == 14 and all(name.endswith("_proj") for name in changed)
        by_peft = opened(base, run.adapter)
        assert share_of_other_tokens(opened(out), by_peft, answers(by_peft, base), gap=0.3) == 0
        assert share_of_other_tokens(opened(base), by_peft, answers(by_peft, base), gap=0.3) > 0.1

    @pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
    @pytest.mark.parametrize("tied", [True, False])
    def test_answers_where_nothing_is_rounded(self, tmp_path: Path, architecture: str, tied: bool) -> None:
        base = save_base(tmp_path / "base", architecture, tie_word_embeddings=tied)
        run = make_run(tmp_path / "run", base)
        out = exported(run, tmp_path / "out", "--merged")
        assert answers(opened(out), out) == answers(opened(base, run.adapter), base) != answers(opened(base), base)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
    def test_the_type_is_that_of_the_bases_files(self, tmp_path: Path, dtype: torch.dtype) -> None:
        base = store_as(save_base(tmp_path / "base"), dtype)
        settings = json.loads((base / "config.json").read_text())
        del settings["dtype"]
        (base / "config.json").write_text(json.dumps(settings | {"torch_dtype": "bfloat16"}))
        run = make_run(tmp_path / "run", base)
        out = exported(run, tmp_path / "out", "--merged")
        expected = merged_by_peft(base, run.adapter)
        assert all(torch.equal(tensor, expected[name].to(dtype)) for name, tensor in tensors(out).items())
        assert AutoModelForCausalLM.from_pretrained(out).dtype == dtype
        written = json.loads((out / "config.json").read_text())
        assert "torch_dtype" not in written and written["dtype"] == str(dtype).removeprefix("torch.")

    def test_several_files(self, tmp_path: Path) -> None:
        base = store_as(save_base(tmp_path / "base"), torch.bfloat16, max_shard_size="50KB")
        run = make_run(tmp_path / "run", base)
        out = exported(run, tmp_path / "out", "--merged")
        names = [path.name for path in sorted(base.glob("*.safetensors*"))]
        assert len(names) > 3 and names == [path.name for path in sorted(out.glob("*.safetensors*"))]
        expected = merged_by_peft(base, run.adapter)
        assert all(torch.equal(tensor, expected[name].bfloat16()) for name, tensor in tensors(out).items())
        assert answers(opened(out), out) == answers(opened(base, run.adapter), base)

    def test_what_comes_along(self, run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "base" / "model.safetensors").chmod(0o644)
        out = exported(run, tmp_path / "out", "--merged")
        assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644
        assert {path.name for path in out.iterdir()} == {
            "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
            "tokenizer.json", "tokenizer_config.json", "training.yaml",
        }  # fmt: skip
        with safe_open(out / "model.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt"}
        shown = capsys.readouterr().out
        assert f"Written to {out}:" in shown and "model.safetensors" in shown and "KiB  in all" in shown
        card = ModelCard((out / "README.md").read_text())
        assert card.data.library_name == "transformers" and "lora" not in card.data.tags

    def test_after_a_training(self, trained: Path, tmp_path: Path) -> None:
        out = exported(trained, tmp_path / "merged", "--merged")
        adapter = exported(trained, tmp_path / "adapter")
        base = adapter / "tiny" / "base"
        assert answers(opened(out), out) == answers(opened(base, adapter), base)
        assert any(not torch.equal(tensors(out)[name], tensor) for name, tensor in tensors(base).items())

    def test_a_failing_one_leaves_nothing(
        self, run: RunDir, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(folders, "describe", full)
        assert "cannot be written (No space left on device)" in refusal(run, "--merged")

    def test_weights_that_cannot_be_written(self, run: RunDir, refusal: Callable[..., str]) -> None:
        resource = pytest.importorskip("resource")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, before[1]))
        try:
            said = refusal(run, "--merged")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "out cannot be written (" in said and "File too large" in said

    def test_a_file_that_was_written_wrong_is_seen(
        self, run: RunDir, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        merge = folders.merge

        def careless(adapter: Any, weights: Any, folder: Path, told: Any) -> None:
            merge(adapter, weights, folder, told)
            found = tensors(folder)
            save_file({name: tensor.half() for name, tensor in found.items()}, folder / "model.safetensors")

        monkeypatch.setattr(folders, "merge", careless)
        assert "was not written as it is in the base" in refusal(run, "--merged")


class TestAdapter:
    def test_of_the_shipped_base(self, trained: Path, tmp_path: Path) -> None:
        out = exported(trained, tmp_path / "out")
        assert json.loads((out / SETTINGS).read_text())["base_model_name_or_path"] == "tiny/base"
        assert (out / WEIGHTS).read_bytes() == (trained / "adapter" / WEIGHTS).read_bytes()
        again = read_config(out / "training.yaml")
        assert again == read_config(trained / "config.yaml").model_copy(update={"run": None})

    def test_of_a_local_base(self, run: RunDir, tmp_path: Path) -> None:
        out = exported(run, tmp_path / "out")
        assert json.loads((out / SETTINGS).read_text())["base_model_name_or_path"] == str(tmp_path / "base")
        assert {path.name for path in out.iterdir()} == {
            "README.md", SETTINGS, WEIGHTS, "chat_template.jinja", "tokenizer.json", "tokenizer_config.json",
            "training.yaml",
        }  # fmt: skip

    def test_of_a_base_on_the_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base = save_base(tmp_path / "base")
        run = make_run(tmp_path / "run", base)
        change_config(run, policy={"model": "some/model"})
        change(run.adapter / SETTINGS, base_model_name_or_path="some/model")
        asked: list[Any] = []

        def download(name: str, allow_patterns: list[str]) -> str:
            asked.append((name, any("safetensors" in pattern for pattern in allow_patterns)))
            return str(base)

        monkeypatch.setattr(export, "offline_if_unreachable", lambda names: None)
        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        out = exported(run, tmp_path / "out")
        exported(run, tmp_path / "merged", "--merged")
        assert asked == [("some/model", False), ("some/model", True)]
        assert json.loads((out / SETTINGS).read_text())["base_model_name_or_path"] == "some/model"
        cards = [ModelCard((folder / "README.md").read_text()).data for folder in (out, tmp_path / "merged")]
        assert [(c.base_model, c.base_model_relation, c.library_name) for c in cards] == [
            ("some/model", "adapter", "peft"), ("some/model", "finetune", "transformers"),
        ]  # fmt: skip

    def test_evaluate_takes_either_form(self, trained: Path, tmp_path: Path) -> None:
        few = ["--problems", "2", "--k", "1", "--data.levels", "1=1"]
        out, merged = exported(trained, tmp_path / "out"), exported(trained, tmp_path / "merged", "--merged")
        assert evaluate.main([str(out), *few, "--to", str(tmp_path / "a")]) == 0
        settings = ["--config", str(merged / "training.yaml")]
        assert evaluate.main([str(merged), *settings, *few, "--to", str(tmp_path / "b")]) == 0
        assert json.loads((tmp_path / "b" / "settings.json").read_text())["model"] == str(merged)


class TestCard:
    @pytest.mark.slow
    @pytest.mark.parametrize("flags", [[], ["--merged"]])
    def test_its_program_runs_where_the_package_is_not(self, trained: Path, tmp_path: Path, flags: list[str]) -> None:
        out = exported(trained, tmp_path / "out", *flags)
        program = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
        assert program is not None and "expo_lite" not in program[1]
        ended = subprocess.run(
            [sys.executable, "-c", program[1]], cwd=out, capture_output=True, text=True, check=True, timeout=120
        )
        assert ended.stdout.strip()

    def test_scores_method_and_versions(self, run: RunDir, tmp_path: Path) -> None:
        run.write_json("environment.json", {"packages": {"torch": "1.2.3"}})
        results = run.path / "evaluation"
        results.mkdir()
        (results / "results.md").write_text("A table.\n")
        settings = {"adapter": sha256(run.adapter / WEIGHTS)[:16]}
        (results / "results.json").write_text(json.dumps({"settings": settings}))
        text = (exported(run, tmp_path / "out") / "README.md").read_text()
        assert "ExP-GRPO (`expo`) for 8 steps" in text and "The adapter of step 4 was best" in text
        assert "| 1 | 5 | 45 | 5 | 45 |" in text.replace(" [5, 5]", "").replace(" [45, 45]", "")
        assert "same or other problems: A table." in text and "Made with torch 1.2.3." in text
        assert "python -m expo_lite.train --config training.yaml" in text and "4 bit" not in text
        (results / "results.json").write_text(json.dumps({"settings": {"adapter": "of another one"}}))
        assert "A table." not in (exported(run, tmp_path / "again") / "README.md").read_text()

    @pytest.mark.parametrize("system", ["Be brief.", ""])
    def test_its_program_asks_as_the_run_did(self, run: RunDir, tmp_path: Path, system: str) -> None:
        """System message, also an empty one, and solved examples come before the question."""
        examples = [{"question": "1+1?", "solution": "It's \\\\boxed{2}.\\nDone."}]
        prompt = {"system": system, "task": "{question} Box it.", "examples": examples}
        change_config(run, prompt=prompt)
        text = (exported(run, tmp_path / "out") / "README.md").read_text()
        said: dict[str, Any] = {}
        exec(re.search(r"^task = .*?^\]$", text, re.DOTALL | re.MULTILINE)[0], said)  # type: ignore[index]
        prompts = Prompts(small_hub.tokenizer(), PromptConfig.model_validate(prompt))
        assert said["messages"] == prompts.messages(Problem("p", "What is 12+34?", "46"))
        assert "stop_strings" not in text

    @pytest.mark.parametrize("thinking", [False, True])
    def test_its_program_lets_think_as_the_run_did(self, run: RunDir, tmp_path: Path, thinking: bool) -> None:
        """Qwen3's template would let it think where it is not told."""
        change_config(run, prompt={"enable_thinking": thinking})
        text = (exported(run, tmp_path / "out") / "README.md").read_text()
        assert f"enable_thinking={thinking}" in text

    def test_of_a_base_without_a_chat_template(self, run: RunDir, tmp_path: Path) -> None:
        """The plain one goes along, and the program stops where a next question begins."""
        (tmp_path / "base" / "chat_template.jinja").unlink()
        out = exported(run, tmp_path / "out")
        assert (out / "chat_template.jinja").read_text() == TEMPLATE
        assert "stop_strings=['\\nQuestion:'], tokenizer=tokenizer" in (out / "README.md").read_text()

    def test_a_runs_own(self, trained: Path) -> None:
        for place in (trained, trained / "adapter"):
            text = (place / "README.md").read_text()
            assert ModelCard(text).data.tags == ["expo-lite", "reinforcement-learning", "expert", "lora"]
            assert "--config config.yaml" in text and "over the base in 4 bit" in text

    @pytest.mark.parametrize(
        ("source", "expected"), [("openai/gsm8k", ["openai/gsm8k"]), ("mine/data.jsonl", None), ("tiny", None)]
    )
    def test_only_what_is_on_the_hub_is_linked(
        self, run: RunDir, tmp_path: Path, source: str, expected: list[str] | None
    ) -> None:
        change_config(run, data={"source": source})
        card = ModelCard((exported(run, tmp_path / "out") / "README.md").read_text())
        assert card.data.datasets == expected and card.data.base_model is None


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_config(run: RunDir, **settings: Any) -> None:
    """Settings of sections, over those that are there."""
    values = read_config(run.config).model_dump(mode="json")
    for section, of_section in settings.items():
        values[section] |= of_section
    run.config.write_text(json.dumps(values))  # JSON is YAML


def edit(run: RunDir, note: bool = True, **edits: Callable[[Tensor], Tensor | None]) -> None:
    """Change matrices of the adapter whose names end so; `note` the new digest, so that other checks are reached."""
    path = run.adapter / WEIGHTS
    found: dict[str, Tensor] = {}
    for name, tensor in load_file(path).items():
        wanted = next((f for end, f in edits.items() if name.endswith(end.replace("__", "."))), None)
        result = wanted(tensor) if wanted else tensor
        if result is not None:
            found[name] = result
    old = sha256(path)
    save_file(found, path)
    if note:
        text = (run.path / "eval.jsonl").read_text()
        (run.path / "eval.jsonl").write_text(text.replace(old, sha256(path)))


Q_A = "layers__1__self_attn__q_proj__lora_A__weight"


class TestRefused:
    def test_another_adapter(self, run: RunDir, refusal: Callable[..., str]) -> None:
        edit(run, note=False, **{Q_A: lambda matrix: matrix + 1})
        assert "is not the file that this run saved: eval.jsonl has another digest" in refusal(run)
        assert "is not the file that this run saved" in refusal(run, "--unchecked")

    def test_an_older_run_without_a_digest(self, run: RunDir, refusal: Callable[..., str], tmp_path: Path) -> None:
        text = (run.path / "eval.jsonl").read_text()
        (run.path / "eval.jsonl").write_text(re.sub(f', "{ADAPTER_DIGEST}": "[0-9a-f]+"', "", text))
        assert "the run is older than this check" in refusal(run)
        assert (exported(run, tmp_path / "out", "--unchecked") / WEIGHTS).is_file()

    @pytest.mark.parametrize(
        ("edits", "said"),
        [
            ({Q_A: lambda m: m * torch.nan}, "layers.1.self_attn.q_proj.lora_A.weight holds numbers that are not"),
            ({Q_A: lambda m: None}, "does not hold both matrices of model.layers.1.self_attn.q_proj"),
            ({Q_A: lambda m: m[:2].clone()}, "the matrices of model.layers.1.self_attn.q_proj do not have the rank"),
            ({Q_A: lambda m: m[:, :9].clone()}, "no linear layer model.layers.1.self_attn.q_proj of 64 x 9"),
            ({Q_A: lambda m: m[0].clone()}, "which is no matrix of a LoRA adapter"),
            (dict.fromkeys([f"q_proj__lora_{x}__weight" for x in "AB"], lambda m: None), "has nothing for model"),
        ],
        ids=["nan", "lonely", "rank", "shape", "vector", "targets"],
    )  # fmt: skip
    def test_matrices(self, run: RunDir, refusal: Callable[..., str], edits: Any, said: str) -> None:
        edit(run, **edits)
        assert said in refusal(run)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"r": 8}, "r is 8, but the run's config.yaml says 4"),
            ({"lora_alpha": 8}, "lora_alpha is 8, but the run's config.yaml says 32"),
            ({"base_model_name_or_path": "other/model"}, "base_model_name_or_path is other/model, but"),
            ({"target_modules": ["k_proj"]}, "_proj is in adapter_model.safetensors, but not among target_modules"),
            ({"use_dora": True}, "plain LoRA adapters only (got use_dora=True)"),
        ],
    )
    def test_settings(self, run: RunDir, refusal: Callable[..., str], values: dict[str, Any], said: str) -> None:
        change(run.adapter / SETTINGS, **values)
        assert said in refusal(run)

    @pytest.mark.parametrize("name", [SETTINGS, WEIGHTS])
    def test_missing_files(self, run: RunDir, refusal: Callable[..., str], name: str) -> None:
        (run.adapter / name).unlink()
        assert f"has no {name}; put the run's own back" in refusal(run)

    def test_a_damaged_file(self, run: RunDir, refusal: Callable[..., str]) -> None:
        path = run.adapter / WEIGHTS
        path.write_bytes(path.read_bytes()[:-5])
        assert f"{path} is damaged" in refusal(run)

    def test_an_unfinished_run(self, run: RunDir, refusal: Callable[..., str]) -> None:
        run.status(5, state="stopped", steps=8)
        said = refusal(run)
        again = f"python -m expo_lite.train --resume --run {run.path}"
        assert (
            "is not finished (stopped, step 5 of 8)" in said and f"{again}\n" in said and f"{again} --steps 5" in said
        )
        (run.path / "status.json").unlink()
        assert "not begun" in refusal(run)

    def test_a_run_without_its_test(self, run: RunDir, refusal: Callable[..., str]) -> None:
        text = (run.path / "eval.jsonl").read_text().splitlines(keepends=True)
        (run.path / "eval.jsonl").write_text("".join(text[:-1]))
        assert "eval.jsonl holds no scores 'test'" in refusal(run)

    def test_what_is_no_run(self, tmp_path: Path, refusal: Callable[..., str]) -> None:
        assert "holds no run (no config.yaml)" in refusal(RunDir(tmp_path))

    def test_a_folder_that_holds_something(
        self, run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "out").mkdir()
        exported(run, tmp_path / "out")
        before = sorted((tmp_path / "out").iterdir())
        assert export.main([str(run.path), "--to", str(tmp_path / "out"), "--merged"]) == 2
        assert "already exists; choose another folder" in capsys.readouterr().err
        assert sorted((tmp_path / "out").iterdir()) == before

    def test_too_small_a_disk(self, run: RunDir, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
        assert "needs 0.1 GiB, and 0.0 GiB are free there" in refusal(run, "--merged")

    def test_private_alone(self, run: RunDir, refusal: Callable[..., str]) -> None:
        assert refusal(run, "--private") == "--private: goes with --push-to-hub\n"


class TestBaseRefused:
    def test_pickled_weights(self, run: RunDir, refusal: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
        assert "has no safetensors files to merge into" in refusal(run, "--merged")

    def test_quantised(self, run: RunDir, refusal: Callable[..., str], tmp_path: Path) -> None:
        change(tmp_path / "base" / "config.json", quantization_config={"quant_method": "bitsandbytes"})
        assert "are quantised, and an adapter is merged into 16-bit weights only" in refusal(run, "--merged")

    def test_other_names(self, run: RunDir, refusal: Callable[..., str], tmp_path: Path) -> None:
        path = tmp_path / "base" / "model.safetensors"
        save_file({f"old.{name}": tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
        assert "changes model.layers.0.mlp.down_proj.weight [64, 128], and the files of" in refusal(run, "--merged")

    def test_an_integer_type(self, run: RunDir, refusal: Callable[..., str], tmp_path: Path) -> None:
        path = tmp_path / "base" / "model.safetensors"
        save_file({name: tensor.char() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
        assert "have I8 [64, 128]" in refusal(run, "--merged")

    def test_damaged(self, run: RunDir, refusal: Callable[..., str], tmp_path: Path) -> None:
        path = tmp_path / "base" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
        assert f"{path} is damaged" in refusal(run, "--merged")

    def test_a_file_is_missing(self, tmp_path: Path, refusal: Callable[..., str]) -> None:
        base = store_as(save_base(tmp_path / "base"), torch.bfloat16, max_shard_size="50KB")
        run = make_run(tmp_path / "run", base)
        first = sorted(base.glob("*.safetensors"))[0]
        first.unlink()
        assert f"has no {first.name}, which its model.safetensors.index.json names" in refusal(run, "--merged")

    def test_numbers_that_do_not_fit_the_type(self, tmp_path: Path, refusal: Callable[..., str]) -> None:
        run = make_run(tmp_path / "run", store_as(save_base(tmp_path / "base"), torch.float16))
        edit(run, **{Q_A: lambda matrix: matrix * 1e7})
        assert "q_proj.weight holds numbers that are not finite in torch.float16" in refusal(run, "--merged")


class TestPush:
    @pytest.fixture
    def hub(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Someone logged in, and a Hub on this machine."""
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        with serving_hub() as hub:
            monkeypatch.setattr(constants, "ENDPOINT", hub.url)
            yield hub

    @pytest.mark.parametrize("private", [True, False])
    def test_everything_is_sent(
        self, run: RunDir, tmp_path: Path, hub: HubStandIn, capsys: pytest.CaptureFixture[str], private: bool
    ) -> None:
        out = exported(run, tmp_path / "out", "--push-to-hub", "me/mine", *(["--private"] if private else []))
        assert (hub.created["name"], hub.created["organization"]) == ("mine", "me")
        assert (hub.created.get("visibility") == "private") is private and hub.token == "hf_of_a_test"
        assert hub.files == {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*")}
        assert f"On the Hub: {hub.url}/me/mine" in capsys.readouterr().out

    def test_one_that_exists_is_left_alone(
        self, run: RunDir, tmp_path: Path, hub: HubStandIn, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hub.existing = "me/mine"
        out = tmp_path / "out"
        assert export.main([str(run.path), "--to", str(out), "--push-to-hub", "me/mine"]) == 2
        assert f"`hf upload me/mine {out}`" in capsys.readouterr().err
        assert hub.files == {} and (out / WEIGHTS).is_file()

    def test_nobody_is_logged_in(
        self, run: RunDir, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
        assert "nobody is logged in to the Hub; `hf auth login`" in refusal(run, "--push-to-hub", "me/mine")

    def test_no_network(self, run: RunDir, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        assert "the Hub cannot be reached" in refusal(run, "--push-to-hub", "me/mine")

    def test_a_name_that_is_none(self, run: RunDir, refusal: Callable[..., str]) -> None:
        assert refusal(run, "--push-to-hub", "a/b/c").startswith("--push-to-hub: ")


def test_help_and_mistakes_do_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from expo_lite.commands import export\n"
        "try: status = export.main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for words, status in ((["--help"], 0), ([str(tmp_path), "--to", str(tmp_path / "out")], 2)):
        ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment)
        assert (ended.returncode, "Traceback" in ended.stderr) == (status, False)
