"""Where a run does not fit, the plan says what would: here that advice is followed, over budgets and models."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expo_lite.config import Config
from expo_lite.config_reader import read_request
from expo_lite.errors import MemoryBudgetError
from expo_lite.memory.budget import budgeted_plan, require_fit, with_completion
from expo_lite.memory.shapes import KNOWN
from expo_lite.preset_files import presets

TOKENS = re.compile(r"rollout\.max_new_tokens (?:that fits is|to at most) (\d+)")
PRESETS = {name: read_request(["--preset", name]).config for name in presets()}


def with_checkpointing(config: Config, on: bool) -> Config:
    return config.model_copy(update={"policy": config.policy.model_copy(update={"gradient_checkpointing": on})})


def tokens_in(advice: str) -> int | None:
    """The `rollout.max_new_tokens` that a piece of advice names."""
    found = TOKENS.search(advice)
    return int(found[1]) if found else None


def refusal(config: Config, model: str, budget: float) -> str | None:
    """What is said where the run does not fit a GPU; None where it does."""
    planned = budgeted_plan(config, KNOWN[model], budget, on_gpu=True)
    try:
        require_fit(config, planned, budget)
    except MemoryBudgetError as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None)
@given(
    preset=st.sampled_from(sorted(PRESETS)),
    model=st.sampled_from(sorted(KNOWN)),
    budget=st.floats(1, 80) | st.floats(1, 12),  # where most of the refusals are
    checkpointing=st.booleans(),
    tokens=st.none() | st.integers(1, 200_000),
)
def test_what_is_advised_does_fit(
    preset: str, model: str, budget: float, checkpointing: bool, tokens: int | None
) -> None:
    config = with_checkpointing(PRESETS[preset], checkpointing)
    config = with_completion(config, tokens) if tokens else config
    said = refusal(config, model, budget)
    if said is None:
        return
    assert "\n" not in said and said.startswith(f"memory.budget_gib: {model} does not fit: ")
    advice = said.rpartition(" usable; ")[2].split("; without it ")
    for one in advice:
        tried, fitting = config, tokens_in(one)
        if "policy.gradient_checkpointing to true" in one:
            assert not checkpointing
            tried = with_checkpointing(config, True)
        if fitting:
            assert refusal(with_completion(tried, fitting + 1), model, budget) is not None
            tried = with_completion(tried, fitting)
        if one == "choose a smaller policy.model":
            tried = with_checkpointing(with_completion(tried, 1), True)
            assert refusal(tried, model, budget) is not None  # no setting helps
        else:
            assert tried != config and refusal(tried, model, budget) is None


@pytest.mark.parametrize("model", KNOWN)
def test_every_kind_of_advice_occurs(model: str) -> None:
    """From hardly any memory to enough of it, for each model."""
    config = with_checkpointing(PRESETS["24gb"], False)
    said = [refusal(config, model, tenths / 10) for tenths in range(5, 800, 2)]
    kinds = [
        "fits" if text is None else re.sub(r"\d+", "N", text.rpartition(" usable; ")[2])
        for text in said
    ]  # fmt: skip
    checkpoint, shorter = "set policy.gradient_checkpointing to true", "rollout.max_new_tokens"
    seen = list(dict.fromkeys(kinds))
    assert seen[0] == "choose a smaller policy.model" and seen[-1] == "fits"
    assert f"{checkpoint} and {shorter} to at most N" in seen
    assert f"{checkpoint}; without it the largest {shorter} that fits is N" in seen
