"""The tab "Will it fit?" without a browser: the plan's own numbers, the words, the command, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from expo_lite.app.fit.answer import HIGHEST, FitQuestion, fit, models, preset_values, shape_here
from expo_lite.app.fit.board import bars, error_html, fit_html, gib, verdict_html
from expo_lite.app.run_list import own_models
from expo_lite.commands import plan
from expo_lite.config.presets import preset_path, presets
from expo_lite.config.read import dump_yaml, read_config
from expo_lite.core.errors import ConfigError
from expo_lite.memory.budget import plan_on
from expo_lite.memory.cards import CARDS, place_of
from expo_lite.memory.forecast import in_words
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import KNOWN, ModelShape
from expo_lite.runs.folder import RunDir

BIG = preset_values("24gb")


def text_of(shown: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", shown)).split())


class TestNumbers:
    @pytest.mark.parametrize("preset", presets())
    def test_a_preset_gets_the_plan_that_a_run_gets(self, preset: str) -> None:
        config = read_config(preset_path(preset))
        found = fit(preset_values(preset))
        assert found.planned == plan_on(config, place_of(config))
        assert (found.refusal, found.command) == ("", f"expo-lite plan --preset {preset}")

    @pytest.mark.parametrize("preset", presets())
    def test_the_bars_add_up_to_the_peaks(self, preset: str) -> None:
        planned = fit(preset_values(preset)).planned.plan
        generating, training = bars(planned)
        assert (generating.peak, training.peak) == (planned.generation_peak, planned.training_peak)
        assert all(size >= 0 for bar in (generating, training) for size in bar.parts.values())
        assert training.parts.get("activations", training.parts.get("logprobs")) == max(
            planned.activations, planned.logprobs
        )

    @pytest.mark.parametrize(
        "changed",
        [
            {"model": "Qwen/Qwen3-8B"},
            {"budget_gib": 40.0},
            {"prompt_tokens": 1024.0},
            {"new_tokens": 512.0},
            {"group": 2.0, "prompts": 1.0},
            {"rank": 64.0},
            {"optimizer": "adamw"},
        ],
    )
    def test_each_field_changes_the_plan(self, changed: dict[str, Any]) -> None:
        assert fit(replace(BIG, **changed)).planned != fit(BIG).planned

    def test_the_page_shows_them(self) -> None:
        found = fit(BIG)
        shown = text_of(verdict_html(found) + fit_html(found))
        assert "✓ It fits" in shown and f"of {gib(found.planned.limit)} usable" in shown
        assert f"Generating {gib(found.planned.plan.generation_peak)} GiB" in shown
        assert f"Training {gib(found.planned.plan.training_peak)} GiB" in shown
        units = found.planned.units
        assert f"rollouts alive at once, of 2,048 tokens each {units.rollouts_alive} " in shown
        assert f"tokens per micro-batch in training {units.micro_batch_tokens:,} " in shown


class TestWhatDoesNotFit:
    def test_the_setting_that_it_names_then_fits(self) -> None:
        asked = replace(BIG, checkpointing=False, budget_gib=20.0)
        assert "policy.gradient_checkpointing true" in fit(asked).refusal
        assert fit(replace(asked, checkpointing=True)).refusal == ""

    def test_the_length_that_it_names_then_fits(self) -> None:
        asked = replace(BIG, new_tokens=25_000.0)
        refused = fit(asked)
        tokens = re.search(r"rollout\.max_new_tokens (\d+)", refused.refusal)
        assert tokens
        assert fit(replace(asked, new_tokens=float(tokens[1]))).refusal == ""
        assert fit(replace(asked, new_tokens=float(tokens[1]) + 1)).refusal != ""
        shown = text_of(verdict_html(refused) + fit_html(refused))
        assert "✗ It does not fit" in shown and tokens[0] in shown and "too much" in shown

    def test_the_longest_completion_is_the_longest(self) -> None:
        longest = fit(BIG).longest
        assert fit(replace(BIG, new_tokens=float(longest))).refusal == ""
        assert fit(replace(BIG, new_tokens=float(longest + 1))).refusal != ""

    def test_a_model_that_is_too_large(self) -> None:
        refusal = fit(replace(BIG, budget_gib=6.0)).refusal
        smaller = re.search(r"policy\.model (\S+)", refusal)
        assert smaller and fit(replace(BIG, budget_gib=6.0, model=smaller[1].rstrip(";"))).refusal == ""


class TestCommand:
    @pytest.mark.parametrize(
        "asked",
        [
            replace(BIG, card="RTX 4090", new_tokens=1024.0, optimizer="adamw", checkpointing=False),
            replace(BIG, card="A100 80GB", budget_gib=None, model="Qwen/Qwen3-8B"),
            replace(preset_values("tiny"), card="T4", budget_gib=16.0, model="Qwen/Qwen2.5-1.5B-Instruct"),
            replace(BIG, budget_gib=22.5),
        ],
    )
    def test_it_prints_the_same_plan(self, asked: FitQuestion, capsys: pytest.CaptureFixture[str]) -> None:
        found = fit(asked)
        status = plan.main(shlex.split(found.command)[2:])
        printed = capsys.readouterr().out
        assert status == (2 if found.refusal else 0)
        assert f"{found.planned.units}." in printed.replace("\n", " ")
        assert gib(found.planned.plan.training_peak) in printed
        if found.hours is not None:
            assert f"About {in_words(3600 * found.hours)} for" in printed

    def test_a_card_that_is_smaller_than_the_budget(self) -> None:
        assert fit(replace(BIG, card="T4")).planned.budget_gib == CARDS["T4"].gib

    def test_who_names_a_card_runs_on_it(self) -> None:
        asked = replace(preset_values("tiny"), card="T4")
        assert fit(asked).planned.workload.on_gpu and not fit(preset_values("tiny")).planned.workload.on_gpu
        assert fit(asked).command == "expo-lite plan --preset tiny --policy.device cuda --card T4"

    def test_the_forecast_comes_with_its_caveat(self) -> None:
        shown = text_of(fit_html(fit(replace(BIG, card="RTX 4090"))))
        assert re.search(r"On the RTX 4090: about [\d.]+ h for 150 steps", shown)
        assert "within a factor of three" in shown and "scores before step 1" in shown
        assert "Choose a card" in text_of(fit_html(fit(BIG)))


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"new_tokens": 0.0}, r"rollout\.max_new_tokens: should be greater than 0 \(got 0\)"),
            ({"group": 1.0}, r"rollout\.group_size: should be at least 2 \(got 1\)"),
            ({"group": 2.5}, r"rollout\.group_size: should be a whole number \(got 2\.5\)"),
            ({"rank": None}, r"policy\.lora_rank: should be a whole number \(got null\)"),
            ({"budget_gib": -1.0}, r"memory\.budget_gib: should be greater than 0"),
            ({"budget_gib": None}, r"memory\.budget_gib: say how many GiB"),
            ({"new_tokens": 1e300}, r"rollout\.max_new_tokens: should be at most 1,000,000"),
            ({"budget_gib": float("inf")}, r"memory\.budget_gib: should be"),
            ({"budget_gib": float("nan")}, r"memory\.budget_gib: should be"),
            ({"optimizer": "sgd"}, r"optimizer\.name: should be"),
            ({"card": "Voodoo 2"}, r"card: there is no 'Voodoo 2'"),
            ({"model": 7}, r"policy\.model: should be text"),
            ({"preset": "../../etc/passwd"}, r"there is no preset"),
        ],
    )
    def test_a_bad_value_is_a_sentence_that_names_its_field(self, changed: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            fit(replace(BIG, **changed))

    def test_the_largest_values_are_planned(self) -> None:
        names = {"rollout.max_prompt_tokens": "prompt_tokens", "rollout.max_new_tokens": "new_tokens"}
        most = {field: float(HIGHEST[name]) for name, field in names.items()}
        assert fit(replace(BIG, **most, prompts=10_000.0, group=10_000.0, rank=4096.0)).refusal

    def test_errors_are_escaped(self) -> None:
        with pytest.raises(ConfigError) as refused:
            fit(replace(BIG, model="<script>alert(1)</script>"))
        assert "<script" not in error_html(str(refused.value))


def describe(folder: Path, shape: ModelShape) -> None:
    """Write the config.json of a model of that shape."""
    folder.mkdir(exist_ok=True)
    described = {
        "model_type": "qwen3",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.mlp,
        "vocab_size": shape.vocabulary,
    }
    (folder / "config.json").write_text(json.dumps(described))


def refusal(model: str, own: Collection[str] = ()) -> str:
    """What is said of a model that is not known here."""
    with pytest.raises(ConfigError, match="is not known here") as refused:
        shape_here(model, own)
    return str(refused.value)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose paths a message shows whole; those below pytest's may be too long for that."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


class TestModels:
    @pytest.mark.parametrize(
        "model", ["some/unknown-model", "no", "", "../..", "//evil.example/share", "\\\\evil\\share", "x\0y", "x" * 999]
    )
    def test_nobody_is_asked_for_an_unknown_one(self, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("the network was asked")

        monkeypatch.setattr("socket.socket.connect", refuse)
        monkeypatch.setattr("socket.getaddrinfo", refuse)
        with pytest.raises(ConfigError, match="is not known here, and the page opens no folders"):
            shape_here(model)

    @pytest.mark.parametrize("model", ["//evil.example/share", "\\\\evil.example\\share"])
    def test_another_machines_folder_is_not_even_looked_at(self, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path) -> bool:
            raise AssertionError(f"{path} was looked at")

        monkeypatch.setattr(Path, "is_file", refuse)
        with pytest.raises(ConfigError, match="is not known here"):
            shape_here(model)

    @pytest.mark.parametrize(
        "written",
        [
            "{folder}",
            "{folder}/",
            "{folder}/../model",
            "file://{folder}",
            "~/model",
            "./model",
            "model",
            "../{name}/model",
        ],
    )
    def test_a_users_folder_is_not_looked_at(
        self, written: str, short_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether something lies there or not: the answer is the same, and comes without a look."""
        (link := short_path / "runs").mkdir()
        (link / "model").symlink_to(short_path / "model")
        monkeypatch.chdir(short_path)
        monkeypatch.setenv("HOME", str(short_path))
        model = written.format(folder=short_path / "model", name=short_path.name)
        without = refusal(model)
        describe(short_path / "model", KNOWN["Qwen/Qwen3-4B"])
        monkeypatch.setattr(Path, "is_file", lambda path: pytest.fail(f"{path} was looked at"))
        assert refusal(model) == without == refusal(str(link / "model")).replace(str(link / "model"), model)

    def test_a_folder_that_one_of_the_apps_own_runs_names(self, tmp_path: Path) -> None:
        known, folder = KNOWN["Qwen/Qwen3-4B"], tmp_path / "model"
        describe(folder, known)
        config = read_config(preset_path("tiny"))
        named = config.model_copy(update={"policy": config.policy.model_copy(update={"model": str(folder)})})
        RunDir.create(tmp_path / "runs" / "mine", dump_yaml(named)).close()
        own = own_models(tmp_path / "runs")
        assert own == [str(folder)] and (str(folder), str(folder)) in models(own)
        assert shape_here(str(folder), own) == replace(known, name=str(folder))
        found = fit(replace(BIG, model=str(folder)), own)
        assert found.planned.plan == fit(replace(BIG, model="Qwen/Qwen3-4B")).planned.plan
        with pytest.raises(ConfigError, match="is not known here"):
            fit(replace(BIG, model=str(tmp_path / "other")), own)

    def test_a_hub_model_that_was_downloaded_before(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        known = KNOWN["Qwen/Qwen3-4B"]
        describe(tmp_path, known)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
        assert shape_here("some/model") == replace(known, name="some/model")

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"hidden_size": "secret"}', "root:x:0:0"])
    def test_what_else_lies_there_stays_untold(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "config.json").write_text(content)
        own = [str(tmp_path)]
        with_file = refusal(str(tmp_path), own)
        (tmp_path / "config.json").unlink()
        assert with_file == refusal(str(tmp_path), own)

    def test_the_shipped_one(self) -> None:
        assert 0 < fit(preset_values("tiny")).planned.plan.peak < GIB
