"""`expo-lite plan`: without a GPU, weights or a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from expo_lite.commands.plan import main
from expo_lite.config.presets import presets


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(list(argv))
    out, error = capsys.readouterr()
    return status, out, error


@pytest.mark.parametrize("preset", presets())
def test_every_preset_fits_its_own_budget(capsys: pytest.CaptureFixture[str], preset: str) -> None:
    status, out, _ = shown(capsys, "--preset", preset)
    assert (status, out.splitlines()[-1]) == (0, "It fits.")


def test_the_plan_changes_with_the_model_and_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    _, large, _ = shown(capsys, "--preset", "24gb")
    status, small, _ = shown(
        capsys, "--preset", "24gb", "--model", "Qwen/Qwen2.5-1.5B-Instruct", "--memory.budget-gib", "8"
    )
    assert status == 0 and "Qwen/Qwen2.5-1.5B-Instruct on a GPU with 8 GiB" in small and small != large


def test_what_does_not_fit_ends_with_the_setting_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = shown(capsys, "--preset", "24gb", "--memory.budget-gib", "6")
    assert status == 2 and "It fits." not in out
    assert error.startswith("memory.budget_gib: Qwen/Qwen2.5-7B-Instruct does not fit: ")


def test_a_forecast_for_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = shown(capsys, "--preset", "24gb", "--card", "RTX 4090")
    assert "Time on one RTX 4090" in out and "an estimate within a factor of three, because " in out
    status, _, error = shown(capsys, "--preset", "24gb", "--card", "RTX 1")
    assert status == 2 and "available: T4" in error


def test_a_model_nobody_knows_and_no_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, _, error = shown(capsys, "--preset", "24gb", "--model", "some/unknown-model")
    assert status == 2 and error.startswith("policy.model: cannot load 'some/unknown-model'")
    assert "Traceback" not in error


def test_a_card_with_less_than_the_budget_is_planned_for_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = shown(capsys, "--preset", "24gb", "--card", "T4")
    assert status == 0 and "on a GPU with 14.6 GiB, 13.1 of them usable" in out
    assert "memory.budget_gib is 24, but the GPU has 14.6 GiB only." in out
    _, out, _ = shown(capsys, "--preset", "colab-t4", "--card", "T4")
    assert "on a GPU with 14 GiB" in out and "but the GPU has" not in out


def test_card_names(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = shown(capsys, "--preset", "24gb", "--card", "Rtx 4090")
    assert "Time on one RTX 4090" in out
    status, _, error = shown(capsys, "--preset", "24gb", "--card", "rtx4090")
    assert status == 2 and error.startswith("--card: there is no 'rtx4090' (did you mean RTX 4090? available: T4 ")


@pytest.mark.parametrize("settings", [(), ("--steps", "3"), ("--card", "T4")])
def test_something_has_to_name_a_model(capsys: pytest.CaptureFixture[str], settings: tuple[str, ...]) -> None:
    status, out, error = shown(capsys, *settings)
    assert (status, out) == (2, "") and error.startswith("preset: name one; ")


def test_a_card_alone_is_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--model", "Qwen/Qwen2.5-3B-Instruct", "--policy.gradient-checkpointing", "true")
    status, out, _ = shown(capsys, "--card", "RTX 4070", *settings)
    assert status == 0 and "on a GPU with 12 GiB" in out


def test_help_names_the_cards_with_their_memory(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert all(word in text for word in ("--preset NAME", "--config FILE", "--model ID", "--card NAME"))
    assert "RTX 4090 (24 GiB)" in text and "T4 (14.6 GiB)" in text


def test_a_flag_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--preset", "24gb", "--card") == (2, "", "--card: needs a value\n")


def test_a_file_of_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text("memory: {budget_gib: 10}\npolicy: {model: Qwen/Qwen3-4B}\n")
    _, out, _ = shown(capsys, "--preset", "24gb", "--config", str(tmp_path / "my.yaml"))
    assert "Qwen/Qwen3-4B on a GPU with 10 GiB" in out


def test_nothing_slow_is_imported() -> None:
    """It answers at once, where torch is slow to load or not even there."""
    script = (
        "import sys; from expo_lite.commands.plan import main; status = main(sys.argv[1:]);"
        "sys.exit(status or ' '.join({'torch', 'transformers', 'huggingface_hub', 'datasets'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", script, "--preset", "24gb", "--card", "RTX 4090"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


class TestGraphs:
    YES = ("--rollout.cuda-graphs", "yes")

    def test_a_pool_is_planned_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        """On a 7B model about a third of a GiB beside what is held anyway: a block, masks, and the driver's share."""

        def generating(*flags: str) -> float:
            status, out, _ = shown(capsys, "--preset", "24gb", *flags)
            assert status == 0 and "ignored" not in out
            return float(re.findall(r"peak, with .*? (\d+\.\d+)", out)[0])

        assert 0.2 < generating(*self.YES) - generating() < 0.6

    def test_they_are_ignored_on_a_cpu(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = shown(capsys, "--preset", "tiny", *self.YES)
        assert status == 0 and "rollout.cuda_graphs is ignored on a CPU." in out
        assert "ignored" not in shown(capsys, "--preset", "tiny")[1]

    def test_and_with_unsloth(self, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, _ = shown(capsys, "--preset", "24gb", *self.YES, "--policy.backend", "unsloth")
        assert status == 0 and "rollout.cuda_graphs is ignored with Unsloth." in out
