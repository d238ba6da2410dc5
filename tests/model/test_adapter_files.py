"""Adapters that a run may go on from, and what is said about those it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import LoraConfig, get_peft_model
from support.tiny_models import tiny_base

from expo_lite.commands.train import main
from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import ConfigError
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS, find_adapter, hub_name

TARGETS = ["q_proj", "v_proj"]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A plain adapter of rank 4 and alpha 8, as peft saves it."""
    folder = tmp_path / "adapter"
    get_peft_model(tiny_base(), LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS)).save_pretrained(str(folder))
    return folder


def change(adapter: Path, **values: Any) -> None:
    path = adapter / SETTINGS
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def config(adapter: Path | str, **settings: Any) -> PolicyConfig:
    return PolicyConfig(**{"adapter": str(adapter), "lora_rank": 4, "lora_alpha": 8} | settings)


def refusal(asked: PolicyConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        find_adapter(asked)
    return str(caught.value)


def test_none_is_asked_for() -> None:
    assert find_adapter(PolicyConfig()) is None


def test_what_peft_saves_is_plain(adapter: Path) -> None:
    found = find_adapter(config(adapter))
    assert found is not None and found.folder == adapter
    assert sorted(found.target_modules) == TARGETS


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"use_rslora": True}, "use_rslora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=['lm_head']"),
        ({"bias": "all"}, "bias=all"),
        ({"lora_bias": True}, "lora_bias=True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights=pissa"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights=pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "init_lora_weights=olora"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern={'q_proj': 2}"),
        ({"exclude_modules": ["k_proj"]}, "exclude_modules=['k_proj']"),
        ({"task_type": "SEQ_CLS"}, "task_type=SEQ_CLS"),
        ({"peft_type": "LOHA"}, "peft_type=LOHA"),
        ({"target_modules": None}, "no target_modules"),
        ({"invented_next_year": 3}, "invented_next_year=3"),
    ],
)
def test_what_is_more_than_low_rank_matrices_is_refused(adapter: Path, values: dict[str, Any], named: str) -> None:
    change(adapter, **values)
    assert f"is not a plain LoRA adapter ({named}). Only low-rank" in refusal(config(adapter))


@pytest.mark.parametrize("init", [True, False, "gaussian", "orthogonal", "eva"])
def test_initialisations_that_leave_the_base_alone(adapter: Path, init: bool | str) -> None:
    change(adapter, init_lora_weights=init, lora_dropout=0.1, task_type="CAUSAL_LM")
    find_adapter(config(adapter))


def test_rank_and_alpha_must_be_the_configured_ones(adapter: Path) -> None:
    assert refusal(config(adapter, lora_rank=16, lora_alpha=32)).splitlines() == [
        f"policy.lora_rank: the adapter {adapter} has 4 (got 16); set --policy.lora-rank 4",
        f"policy.lora_alpha: the adapter {adapter} has 8 (got 32); set --policy.lora-alpha 8",
    ]


def test_a_runs_folder_stands_for_the_adapter_in_it(adapter: Path) -> None:
    found = find_adapter(config(adapter.parent))
    assert found is not None and found.folder == adapter


class TestBase:
    def test_another_one_is_refused(self, adapter: Path) -> None:
        change(adapter, base_model_name_or_path="Qwen/Qwen3-4B")
        message = refusal(config(adapter, model="Qwen/Qwen3-4B-Base"))
        assert message.startswith(f"policy.model: the adapter {adapter} was trained on Qwen/Qwen3-4B (got Qwen/Qwen3-4")
        assert "correct base_model_name_or_path in" in message

    @pytest.mark.parametrize(
        "model", ["Qwen/Qwen3-4B", "unsloth/qwen3-4b-unsloth-bnb-4bit", "/models/Qwen3-4B/", "./my-copy", "tiny"]
    )
    def test_the_same_one_elsewhere_or_any_folder_is_not(self, adapter: Path, model: str) -> None:
        change(adapter, base_model_name_or_path="Qwen/Qwen3-4B")
        assert find_adapter(config(adapter, model=model))

    @pytest.mark.parametrize(
        ("model", "name"), [("a/B-4bit", "b-4bit"), ("./x/base", None), ("C:\\m\\Base", None), ("/m/base", None)]
    )
    def test_hub_names(self, model: str, name: str | None) -> None:
        assert hub_name(model) == name

    def test_a_folder_that_is_here_is_no_hub_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "models" / "base").mkdir(parents=True)
        assert hub_name("models/base") == "base"
        monkeypatch.chdir(tmp_path)
        assert hub_name("models/base") is None

    def test_the_shipped_one_is_the_same_wherever_it_is_installed(self, adapter: Path) -> None:
        change(adapter, base_model_name_or_path="/elsewhere/site-packages/expo_lite/tiny/base")
        assert find_adapter(config(adapter, model="tiny"))


class TestMissing:
    def test_file(self, adapter: Path) -> None:
        (adapter / WEIGHTS).unlink()
        assert refusal(config(adapter)).endswith(f"is not a folder that PEFT has saved: it has no {WEIGHTS}")
        (adapter / SETTINGS).unlink()
        assert refusal(config(adapter)).endswith(f"is not a folder that PEFT has saved: it has no {SETTINGS}")

    @pytest.mark.parametrize("text", ["{", "[]", '"x"'])
    def test_settings_that_are_none(self, adapter: Path, text: str) -> None:
        (adapter / SETTINGS).write_text(text)
        assert refusal(config(adapter)).startswith(f"policy.adapter: {adapter / SETTINGS} cannot be read: ")

    def test_settings_without_rank(self, adapter: Path) -> None:
        (adapter / SETTINGS).write_text('{"peft_type": "LORA", "target_modules": ["q_proj"]}')
        assert "has no r or lora_alpha" in refusal(config(adapter))

    def test_everywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def offline(*_: Any, **__: Any) -> str:
            raise LocalEntryNotFoundError("no connection\nand much advice")

        monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
        assert refusal(config("some/adapter")) == (
            "policy.adapter: cannot load 'some/adapter': there is no such folder, and the Hub does not give it here: "
            "no connection"
        )

    def test_what_the_hub_gives_is_used(self, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(adapter))
        found = find_adapter(config("some/adapter"))
        assert found is not None and found.folder == adapter


def test_a_run_with_one_that_cannot_be_continued_ends_in_a_sentence(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["--preset", "tiny", "--policy.adapter", str(adapter), "--run", str(run)]) == 2
    assert "policy.lora_rank: the adapter" in capsys.readouterr().err
    assert not run.exists()
