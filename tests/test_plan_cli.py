"""`python -m expo_lite.plan`: without a GPU, weights or a network."""

from __future__ import annotations

import pytest

from expo_lite.plan import main
from expo_lite.preset_files import presets


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
    assert "RTX 4090: about " in out and "an estimate that may be off by a factor of two" in out
    status, _, error = shown(capsys, "--preset", "24gb", "--card", "RTX 1")
    assert status == 2 and "available: T4" in error


def test_a_model_nobody_knows_and_no_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    status, _, error = shown(capsys, "--preset", "24gb", "--model", "some/unknown-model")
    assert status == 2 and error.startswith("policy.model: cannot load 'some/unknown-model'")
    assert "Traceback" not in error


def test_a_card_that_is_too_small_for_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = shown(capsys, "--preset", "24gb", "--card", "RTX 3060 12GB")
    assert (status, out) == (2, "")
    assert error == "--card: the RTX 3060 12GB has 12 GiB, memory.budget_gib is 24; lower that\n"


def test_a_card_alone_is_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--model", "Qwen/Qwen2.5-3B-Instruct", "--policy.gradient-checkpointing", "true")
    status, out, _ = shown(capsys, "--card", "RTX 4070", *settings)
    assert status == 0 and "on a GPU with 12 GiB" in out
