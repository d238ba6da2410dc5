"""Where a run does not fit, the plan says what would: here that advice is followed, over settings and models."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expo_lite.config.dotted import replaced
from expo_lite.config.presets import presets
from expo_lite.config.read import read_request
from expo_lite.config.settings import Config
from expo_lite.core.errors import MemoryBudgetError
from expo_lite.memory.budget import budgeted_plan
from expo_lite.memory.remedies import LEAST, require_fit
from expo_lite.memory.shapes import KNOWN

PRESETS = {name: read_request(["--preset", name]).config for name in presets()}
VALUES = {"null": None, "true": True}


def refusal(config: Config) -> str | None:
    """What is said where the run does not fit a GPU; None where it does."""
    budget = config.memory.budget_gib or 0.0
    try:
        require_fit(config, budgeted_plan(config, KNOWN[config.policy.model], budget, on_gpu=True))
    except MemoryBudgetError as error:
        return str(error)
    return None


def advised(said: str) -> list[dict[str, Any]]:
    """The changes that a refusal names, as new values by setting."""
    choices = said.partition("; it fits with ")[2].split("; or with ")
    return [dict(parsed(change) for change in choice.split(" and ")) for choice in choices]


def parsed(change: str) -> tuple[str, Any]:
    """ "policy.lora_rank 8" as setting and value."""
    name, word = change.split(" ")
    number = float(word) if name == "memory.budget_gib" else int(word) if word.isdigit() else word
    return name, VALUES.get(word, number)


def hand_set(most: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(1, most)


@settings(max_examples=200, deadline=None)
@given(
    preset=st.sampled_from(sorted(PRESETS)),
    changes=st.fixed_dictionaries(
        {
            "policy.model": st.sampled_from(sorted(KNOWN)),
            "memory.budget_gib": st.floats(0.3, 80) | st.floats(1, 12),  # where most of the refusals are
        },
        optional={
            "memory.rollouts_alive": hand_set(5000),
            "memory.micro_batch_tokens": hand_set(100_000),
            "memory.logprob_chunk": hand_set(50_000),
            "policy.gradient_checkpointing": st.booleans(),
            "policy.quantization": st.sampled_from(["nf4", "none"]),
            "policy.lora_rank": st.integers(1, 1024),
            "policy.adapter": st.just("a/b"),
            "optimizer.name": st.sampled_from(["adamw", "adamw_8bit"]),
            "rollout.max_new_tokens": st.integers(1, 200_000),
            "rollout.max_prompt_tokens": st.integers(1, 50_000),
        },
    ),
)
def test_what_is_advised_does_fit(preset: str, changes: dict[str, Any]) -> None:
    config = replaced(PRESETS[preset], changes)
    said = refusal(config)
    if said is None:
        return
    assert "\n" not in said and said.startswith(f"memory.budget_gib: {config.policy.model} does not fit: ")
    for advice in advised(said):
        assert replaced(config, advice) != config and refusal(replaced(config, advice)) is None
        if config.policy.adapter:
            assert not {"policy.model", "policy.lora_rank"} & advice.keys()
        if (tokens := advice.get("rollout.max_new_tokens")) is not None:
            assert LEAST["rollout.max_new_tokens"] <= tokens < config.rollout.max_new_tokens
            assert refusal(replaced(config, {**advice, "rollout.max_new_tokens": tokens + 1})) is not None


@pytest.mark.parametrize(
    ("asked", "advice"),
    [
        ("24gb --memory.budget-gib 3 --memory.rollouts-alive 1", ["policy.model", "memory.budget_gib"]),
        ("24gb --memory.budget-gib 6 --memory.logprob-chunk 32", ["policy.model", "memory.budget_gib"]),
        (
            "8gb --memory.micro-batch-tokens 60000 --rollout.max-new-tokens 60000",
            ["memory.micro_batch_tokens rollout.max_new_tokens"],
        ),
        ("8gb --policy.quantization none", ["policy.quantization"]),
        ("8gb --rollout.max-prompt-tokens 20000 --rollout.max-new-tokens 16", ["rollout.max_prompt_tokens"]),
        ("8gb --policy.lora-rank 512 --optimizer.name adamw", ["optimizer.name policy.lora_rank"]),
        ("24gb --memory.budget-gib 0.5", ["memory.budget_gib"]),
        ("24gb --policy.gradient-checkpointing false", ["policy.gradient_checkpointing", "rollout.max_new_tokens"]),
    ],
)
def test_what_helps_is_named(asked: str, advice: list[str]) -> None:
    said = refusal(read_request(["--preset", *shlex.split(asked)]).config)
    assert said is not None and [" ".join(choice) for choice in advised(said)] == advice


@pytest.mark.parametrize("model", KNOWN)
def test_from_hardly_any_memory_to_enough_of_it(model: str) -> None:
    config = replaced(PRESETS["24gb"], {"policy.model": model, "policy.gradient_checkpointing": False})
    said = [
        refusal(replaced(config, {"memory.budget_gib": tenths / 10})) for tenths in (*range(3, 20), *range(21, 800, 2))
    ]
    first = ["fits" if text is None else " ".join(advised(text)[0]) for text in said]
    assert (first[0], first[-1]) == ("policy.gradient_checkpointing memory.budget_gib", "fits")
    kinds = ("policy.gradient_checkpointing", "policy.gradient_checkpointing rollout.max_new_tokens")
    assert all(kind in first for kind in kinds)
