"""The policy: a real 4-bit base with LoRA, that trains after it has generated, and is the base with its adapter off."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from support.tiny_models import ARCHITECTURES, live_units, nf4_policy, save_base
from torch import Tensor
from transformers import AutoModelForCausalLM

from expo_lite.config import model_files
from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import ConfigError
from expo_lite.model import base as base_model
from expo_lite.model.adapter_weights import load_adapter, save_adapter
from expo_lite.model.base import LOGIT_CHANGES, quantised_linears, refuse_replacement
from expo_lite.model.policy import Policy, load_policy
from expo_lite.model.sampler import Sampler, SampleRequest

IDS = torch.tensor([[3, 7, 9, 12, 4, 8, 20, 2], [3, 11, 5, 4, 9, 2, 0, 0]])
LENGTHS = [8, 6]  # the second row is padded on the right
LINEARS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp(request.param) / "base", request.param)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Policy:
    return nf4_policy(folder)


def gradients(policy: Policy) -> list[Tensor]:
    """Gradients of a training loss, by adapter matrix."""
    policy.model.zero_grad(set_to_none=True)
    positions = torch.tensor([2, 3, 4, 5, 6, 9, 10, 11])
    targets = IDS.flatten()[positions + 1]
    logprobs, _ = policy.completion_logprobs(IDS, positions, targets, torch.full((8,), 0.7), 3)
    logprobs.sum().backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in policy.trainable]
    policy.model.zero_grad(set_to_none=True)
    return found


def generate(policy: Policy) -> None:
    Sampler(policy, live_units(4)).sample([SampleRequest([3, 7, 9], 2, ("s",))], 6)


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


class TestFourBits:
    def test_every_linear_but_the_head_in_nf4_with_double_quantisation(self, loaded: Policy) -> None:
        linears = quantised_linears(loaded.model)
        assert len(linears) == 2 * len(LINEARS)
        assert all(layer.weight.quant_state.nested for layer in linears)
        assert {layer.weight.quant_state.quant_type for layer in linears} == {"nf4"}
        assert not isinstance(loaded.head, Linear4bit)

    def test_no_layer_may_repack_its_weight(self, loaded: Policy) -> None:
        assert [layer.support_avx512bf16_for_cpu for layer in quantised_linears(loaded.model)] == [False] * 14

    def test_gradients_are_the_same_after_a_generation(self, folder: Path) -> None:
        # red without avoid_in_place_repacking on a CPU with AVX512-BF16, where bitsandbytes repacks
        policy = nf4_policy(folder)
        before = gradients(policy)
        generate(policy)
        after = gradients(policy)
        assert all(g.abs().max() > 0 for g in before)
        assert same(before, after)

    def test_none_leaves_the_weights_as_they_are(self, folder: Path) -> None:
        assert not quantised_linears(nf4_policy(folder, quantization="none").model)


class TestAdapter:
    def test_on_all_linear_layers_but_the_head_with_master_weights_in_float32(self, loaded: Policy) -> None:
        names = [name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad]
        assert len(names) == 2 * 2 * len(LINEARS)
        assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in names} == LINEARS
        assert {p.dtype for p in loaded.trainable} == {torch.float32}

    def test_master_weights_stay_float32_under_a_16_bit_base(self, folder: Path) -> None:
        policy = nf4_policy(folder, dtype="bfloat16")
        assert policy.head.weight.dtype == torch.bfloat16
        assert {p.dtype for p in policy.trainable} == {torch.float32}

    def test_a_fresh_one_changes_nothing(self, folder: Path) -> None:
        fresh = load_policy(PolicyConfig(model=str(folder), device="cpu"), 0)
        with torch.no_grad():
            now = fresh.causal_lm(IDS).logits
            with fresh.reference():
                assert torch.equal(now, fresh.causal_lm(IDS).logits)

    def test_off_is_the_base(self, folder: Path, loaded: Policy) -> None:
        base = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=loaded.causal_lm.config.quantization_config, dtype=torch.float32
        )
        base_model.avoid_in_place_repacking(base)
        with torch.no_grad(), loaded.reference():
            off = loaded.causal_lm(IDS).logits
        with torch.no_grad():
            assert torch.equal(off, base(IDS).logits)
            assert (loaded.causal_lm(IDS).logits - off).abs().max() > 0.01  # and the adapter matters

    def test_the_seed_decides_it(self, folder: Path) -> None:
        config = PolicyConfig(model=str(folder), device="cpu")
        first, again, other = (load_policy(config, seed).trainable[0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.fixture(scope="module")
def saved(loaded: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("saved") / "adapter"
    save_adapter(target, loaded.model)
    return target


def test_who_can_read_one_file_of_it_can_read_all(saved: Path) -> None:
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


class TestGoingOnFromAnAdapter:
    def start(self, folder: Path, adapter: Path, seed: int = 0, **settings: Any) -> Policy:
        settings = {"device": "cpu", "lora_rank": 4} | settings
        return load_policy(PolicyConfig(model=str(folder), adapter=str(adapter), **settings), seed)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_it_starts_as_that_adapter_whatever_the_seed(
        self, folder: Path, loaded: Policy, saved: Path, seed: int
    ) -> None:
        started = self.start(folder, saved, seed)
        assert same(started.trainable, loaded.trainable)
        assert {p.dtype for p in started.trainable} == {torch.float32}
        assert same(gradients(started), gradients(loaded))
        with torch.no_grad():
            assert torch.equal(started.causal_lm(IDS).logits, loaded.causal_lm(IDS).logits)

    @torch.no_grad()
    def test_the_reference_is_the_base_without_it(self, folder: Path, loaded: Policy, saved: Path) -> None:
        started = self.start(folder, saved)
        with started.reference(), loaded.reference():
            reference = started.causal_lm(IDS).logits
            assert torch.equal(reference, loaded.causal_lm(IDS).logits)
        assert (started.causal_lm(IDS).logits - reference).abs().max() > 0.01

    @torch.no_grad()
    def test_one_made_by_peft_on_some_layers_in_16_bit(self, folder: Path, tmp_path: Path) -> None:
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        lora = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"], lora_dropout=0.5)
        made = get_peft_model(base, lora)
        for parameter in made.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
                parameter.data = parameter.data.bfloat16()
        made.save_pretrained(tmp_path)
        started = self.start(folder, tmp_path, lora_alpha=6, quantization="none")
        assert len(started.trainable) == 2 * 2 * 2
        assert {p.dtype for p in started.trainable} == {torch.float32}
        expected = made.float().eval()(IDS).logits
        torch.testing.assert_close(started.causal_lm(IDS).logits, expected, atol=1e-5, rtol=1e-5)

    def test_a_checkpoint_is_loaded_over_it(self, folder: Path, saved: Path, tmp_path: Path) -> None:
        further = self.start(folder, saved)
        for parameter in further.trainable:
            parameter.data += 1
        save_adapter(tmp_path, further.model)
        resumed = self.start(folder, saved)
        load_adapter(tmp_path, resumed.model)
        assert same(resumed.trainable, further.trainable)

    def test_one_for_a_model_of_other_sizes_is_refused(self, saved: Path, tmp_path: Path) -> None:
        wider = save_base(tmp_path / "base", intermediate_size=192)
        with pytest.raises(
            ConfigError, match=r"^policy\.adapter: .*adapter cannot be used with .*base: .*another model"
        ):
            self.start(wider, saved)

    def test_one_that_is_cut_short_is_called_damaged(self, folder: Path, saved: Path, tmp_path: Path) -> None:
        cut = Path(shutil.copytree(saved, tmp_path / "cut"))
        shorten(cut / "adapter_model.safetensors")
        with pytest.raises(ConfigError, match=r"^policy\.adapter: .*adapter_model\.safetensors is damaged .*again$"):
            self.start(folder, cut)

    def test_one_that_changes_the_head_is_refused(self, folder: Path, tmp_path: Path) -> None:
        base = AutoModelForCausalLM.from_pretrained(folder)
        get_peft_model(base, LoraConfig(r=4, lora_alpha=32, target_modules=["lm_head"])).save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=r"^policy\.adapter: .* changes embedding or head"):
            self.start(folder, tmp_path, quantization="none")


class TestForward:
    @torch.no_grad()
    def test_right_padding_needs_no_mask(self, loaded: Policy) -> None:
        mask = torch.tensor([[t < length for t in range(8)] for length in LENGTHS]).long()
        masked = loaded.causal_lm.get_decoder()(input_ids=IDS, attention_mask=mask).last_hidden_state
        hidden = loaded.hidden_states(IDS)
        for row, length in enumerate(LENGTHS):
            torch.testing.assert_close(hidden[row, :length], masked[row, :length], atol=1e-5, rtol=0)

    @torch.no_grad()
    def test_the_head_on_hidden_states_is_the_models_logits(self, loaded: Policy) -> None:
        assert torch.equal(loaded.head(loaded.hidden_states(IDS)), loaded.causal_lm(IDS).logits)


def test_adapters_by_row_leave_nothing_behind_after_an_error(loaded: Policy) -> None:
    """As where a GPU runs out of memory while some rows are the base's."""
    with loaded.generating():
        with contextlib.suppress(torch.OutOfMemoryError), loaded.adapter_by_row([True, False]):
            raise torch.OutOfMemoryError
        assert loaded.hidden_states(IDS[:1]).shape[0] == 1, "one row, where there were two"


def test_checkpointing_changes_no_gradient_and_leaves_the_cache_on(folder: Path, loaded: Policy) -> None:
    checkpointed = nf4_policy(folder, gradient_checkpointing=True)
    calls = []
    for layer in checkpointed.causal_lm.get_decoder().layers:
        checkpoint = layer._gradient_checkpointing_func
        layer._gradient_checkpointing_func = lambda *a, of=checkpoint, **k: calls.append(1) or of(*a, **k)
    torch.testing.assert_close(gradients(checkpointed), gradients(loaded), atol=1e-5, rtol=1e-5)
    assert len(calls) == 2  # both layers

    requests = [SampleRequest([3, 7, 9], 3, ("s",)), SampleRequest([3, 5], 2, ("t",))]
    assert Sampler(checkpointed, live_units(64)).sample(requests, 12) == Sampler(loaded, live_units(64)).sample(
        requests, 12
    )
    assert len(calls) == 2  # none of them while generating
    assert checkpointed.model.training


def shorten(path: Path) -> None:
    """As after a copy or download that was broken off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pickled(path: Path) -> None:
    """The same weights as an archive of pickles, cut short."""
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()
    shorten(path.with_name("pytorch_model.bin"))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "weights cut": ("model.safetensors", shorten),
    "weights empty": ("model.safetensors", lambda path: path.write_bytes(b"")),
    "weights missing": ("model.safetensors", Path.unlink),
    "pickled weights cut": ("model.safetensors", pickled),
    "settings cut": ("config.json", shorten),
    "settings a list": ("config.json", lambda path: path.write_text("[1]")),
    "tokenizer cut": ("tokenizer.json", shorten),
    "tokenizer empty": ("tokenizer.json", lambda path: path.write_text("{}")),
    "tokenizer missing": ("tokenizer.json", Path.unlink),
}


class TestDamagedFiles:
    """One sentence, and what to do about it: which depends on where the files come from."""

    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        return save_base(tmp_path / "base")

    def refusal(self, model: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_policy(PolicyConfig(model=model, device="cpu"), 0)
        return str(caught.value).splitlines()

    @pytest.mark.parametrize("name", DAMAGES)
    def test_of_a_folder(self, name: str, base: Path) -> None:
        file, damage = DAMAGES[name]
        damage(base / file)
        said, remedy = self.refusal(str(base))
        assert said.startswith(f"policy.model: cannot load {str(base)!r}: ")
        assert "folder" in remedy and "hf auth" not in remedy

    def test_of_a_tokenizer_that_transformers_makes_up(self, base: Path) -> None:
        """Without tokenizer.json it makes a Qwen2's of no words: every prompt would be empty, and the run go on."""
        (base / "tokenizer.json").unlink()
        assert "its tokenizer reads nothing" in self.refusal(str(base))[0]

    def test_of_the_shipped_base(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shorten(base / "model.safetensors")
        monkeypatch.setattr(model_files, "tiny_base", lambda: base)
        assert self.refusal("tiny")[1] == "It ships in the package: install expo-lite again."

    def test_of_a_cached_download(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def cut(*_: object, **__: object) -> None:
            raise SafetensorError("Error while deserializing header: incomplete metadata, file not fully covered")

        monkeypatch.setattr("expo_lite.model.policy.AutoConfig.from_pretrained", cut)
        assert "`hf cache rm model/owner/name`" in self.refusal("owner/name")[1]

    def test_memory_that_runs_out_meanwhile_is_no_damage(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr("expo_lite.model.policy.load_base", full)
        with pytest.raises(torch.OutOfMemoryError):
            load_policy(PolicyConfig(model=str(base), device="cpu"), 0)


class TestRefusals:
    def test_missing_model(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^policy\.model: cannot load '.*nowhere'"):
            load_policy(PolicyConfig(model=str(tmp_path / "nowhere")), 0)

    @pytest.mark.parametrize("quantization", ["nf4", "none"])
    def test_files_that_lack_weights(self, quantization: str, tmp_path: Path) -> None:
        """transformers fills them with random numbers, and says so in a table that is easily overlooked."""
        weights = load_file(save_base(tmp_path) / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ConfigError, match=r"cannot load .*lack 1 of its weights, model\.layers\.1\.mlp\.up_proj"):
            load_policy(PolicyConfig(model=str(tmp_path), quantization=quantization), 0)  # type: ignore[arg-type]

    def test_no_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ConfigError, match=r"^policy\.device: .*needs an NVIDIA GPU"):
            load_policy(PolicyConfig(model="nowhere", device="cuda"), 0)

    @pytest.mark.parametrize("name", LOGIT_CHANGES)
    def test_models_that_change_their_logits_after_the_head(self, name: str, tmp_path: Path) -> None:
        base = save_base(tmp_path / "base")
        values = json.loads((base / "config.json").read_text())
        for harmless in (1.0, None):
            (base / "config.json").write_text(json.dumps({**values, name: harmless}))
            load_policy(PolicyConfig(model=str(base), device="cpu", quantization="none"), 0)
        (base / "config.json").write_text(json.dumps({**values, name: 0.5}))
        with pytest.raises(ConfigError, match=rf"^policy\.model: .*{name}=0\.5"):
            load_policy(PolicyConfig(model=str(base), device="cpu"), 0)

    def test_a_backend_that_did_not_quantise(self, folder: Path) -> None:
        plain = nf4_policy(folder, quantization="none").causal_lm
        refuse_replacement(plain, "none", torch.float32)
        with pytest.raises(ConfigError, match=r"^policy\.quantization: .*\(got nf4\)"):
            refuse_replacement(plain, "nf4", torch.float32)

    def test_a_backend_that_took_another_type(self, folder: Path) -> None:
        plain = nf4_policy(folder, quantization="none").causal_lm
        with pytest.raises(ConfigError, match=r"^policy\.dtype: .* in float32 here \(got float16\)"):
            refuse_replacement(plain, "none", torch.float16)


def test_loading_a_folder_shows_no_progress_bar_and_switches_them_on_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    load_policy(PolicyConfig(model=str(folder), device="cpu"), 0)
    assert capfd.readouterr() == ("", "")
    assert base_model.transformers_logging.is_progress_bar_enabled()
