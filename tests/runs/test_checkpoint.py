"""What a checkpoint holds, and what is said of one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from support.tiny_models import live_units, nf4_policy, save_base, tiny_config
from torch import Tensor
from transformers import AutoModelForCausalLM

from expo_lite.config.settings import OptimizerConfig
from expo_lite.core.errors import CheckpointError
from expo_lite.model.adapter_weights import load_adapter
from expo_lite.model.policy import Policy
from expo_lite.runs.assemble import build_optimizer
from expo_lite.runs.checkpoint import RunProgress, load_checkpoint, save_checkpoint, unsound
from expo_lite.runs.manifest import MANIFEST, write_manifest
from expo_lite.training.updater import Updater

IDS = torch.tensor([[3, 7, 9, 12, 4, 8, 20, 2]])
PROGRESS = RunProgress(step=3, best_step=2, best_score=0.25)
OPTIMIZER = OptimizerConfig(learning_rate=0.01, schedule="linear", warmup_steps=2)


class Training:
    """A policy in training on one sequence."""

    def __init__(self, base: Path, seed: int = 0) -> None:
        self.policy = nf4_policy(base, seed, quantization="none")
        self.optimizer, self.scheduler = build_optimizer(self.policy, OPTIMIZER, 10)
        self.updater = Updater(tiny_config(), self.policy, live_units(), self.optimizer, self.scheduler)

    def steps(self, count: int) -> Training:
        for _ in range(count):
            self.policy.causal_lm(IDS, labels=IDS).loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
        return self

    def save(self, folder: Path) -> Path:
        folder.mkdir()
        save_checkpoint(folder, self.policy.model, self.updater.state_dict(), PROGRESS)
        return folder

    def load(self, folder: Path) -> RunProgress:
        return load_checkpoint(folder, self.policy.model, self.updater.load_state_dict)


@torch.no_grad()
def logits(policy: Policy) -> Tensor:
    return policy.causal_lm(IDS).logits


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def saved(base: Path, tmp_path: Path) -> Path:
    return Training(base).steps(3).save(tmp_path / "step_000003")


def test_training_goes_on_as_if_it_had_not_stopped(base: Path, saved: Path) -> None:
    resumed = Training(base, seed=1)
    assert resumed.load(saved) == PROGRESS
    assert torch.equal(logits(resumed.steps(3).policy), logits(Training(base).steps(6).policy))


def test_plain_peft_loads_the_adapter_onto_the_plain_base(base: Path, saved: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, str(saved / "adapter"))
    expected = logits(Training(base).steps(3).policy)
    torch.testing.assert_close(model(IDS).logits.detach(), expected, atol=1e-6, rtol=0)


def test_loading_an_adapter_takes_only_the_adapter(base: Path, saved: Path) -> None:
    other = Training(base, seed=1)
    load_adapter(saved / "adapter", other.policy.model)
    assert torch.equal(logits(other.policy), logits(Training(base).steps(3).policy))
    assert other.optimizer.state_dict()["state"] == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "optimizer cut short": lambda folder: cut(folder / "training.pt"),
    "optimizer empty": lambda folder: (folder / "training.pt").write_bytes(b""),
    "optimizer is text": lambda folder: (folder / "training.pt").write_text("no pickle"),
    "optimizer lacks a part": lambda folder: torch.save({"optimizer": {}}, folder / "training.pt"),
    "adapter cut short": lambda folder: cut(folder / "adapter" / "adapter_model.safetensors"),
    "adapter empty": lambda folder: (folder / "adapter" / "adapter_model.safetensors").write_bytes(b""),
    "adapter missing": lambda folder: (folder / "adapter" / "adapter_model.safetensors").unlink(),
    "progress torn": lambda folder: (folder / "progress.json").write_text('{"step": '),
    "progress of another version": lambda folder: (folder / "progress.json").write_text('{"steps": 3}'),
    "progress is a list": lambda folder: (folder / "progress.json").write_text("[3]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_says_so_and_what_to_do(base: Path, saved: Path, damage: Callable[[Path], object]) -> None:
    damage(saved)
    with pytest.raises(CheckpointError) as caught:
        Training(base).load(saved)
    assert str(caught.value).startswith(f"{saved}: cannot be resumed: ")
    assert "Move this folder elsewhere" in str(caught.value)
    assert unsound(saved) or damage is DAMAGES["optimizer lacks a part"]


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "training.pt", "progress.json", MANIFEST])
def test_a_flipped_bit_is_seen(saved: Path, name: str) -> None:
    write_manifest(saved, {})
    assert unsound(saved) is None
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    assert unsound(saved)


def test_a_missing_file_is_seen(saved: Path) -> None:
    write_manifest(saved, {})
    (saved / "adapter" / "adapter_config.json").unlink()
    assert unsound(saved) == "adapter/adapter_config.json is missing"


@pytest.mark.parametrize("with_manifest", [True, False])
def test_numbers_that_are_not_finite_are_not_gone_on_from(saved: Path, with_manifest: bool) -> None:
    weights = saved / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
    if with_manifest:
        write_manifest(saved, {})
    assert unsound(saved) == "its adapter holds numbers that are not finite"


def test_an_older_one_without_a_manifest_is_sound(saved: Path) -> None:
    assert unsound(saved) is None
    assert unsound(saved.rename(saved.with_name("step_000005"))) == "it is of step 3"


def test_another_models_adapter_is_refused(saved: Path, tmp_path: Path) -> None:
    other = Training(save_base(tmp_path / "other", intermediate_size=64))
    with pytest.raises(CheckpointError, match="another model or rank"):
        other.load(saved)
