"""The comments of the presets: each figure in them is worked out again from the settings and the plan."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.preset_names import CARD_PRESETS

from expo_lite.config.presets import preset_path
from expo_lite.config.read import read_config
from expo_lite.config.settings import Config
from expo_lite.memory.budget import BudgetedPlan, budgeted_plan
from expo_lite.memory.plan import GIB, activation_bytes, kv_bytes_per_token, optimizer_bytes, weight_bytes
from expo_lite.memory.shapes import find_shape

LEVELS = {"EleutherAI/hendrycks_math": 5}
TRAINING_PROBLEMS = {"EleutherAI/hendrycks_math": 7500}  # rows of the Hub's train split


def comments(name: str) -> dict[str, str]:
    """The comment behind each setting of a preset, by the setting's dotted name."""
    found: dict[str, str] = {}
    section = ""
    for line in preset_path(name).read_text(encoding="utf-8").splitlines()[1:]:
        setting, _, comment = line.partition("# ")
        indent, key = re.match(r"( *)(\w+):", setting).groups()  # type: ignore[union-attr]
        section = section if indent else key
        found[f"{section}.{key}" if indent else key] = comment.strip()
    return {key: comment for key, comment in found.items() if comment}


def planned(config: Config) -> BudgetedPlan:
    return budgeted_plan(config, find_shape(config.policy.model), config.memory.budget_gib or 0, on_gpu=True)


def figures(name: str) -> dict[str, str]:
    """What the comment behind a setting has to say, with its figures, for every comment that has one."""
    config = read_config(preset_path(name))
    plan, rollout, source = planned(config), config.rollout, config.data.source
    shape, workload = plan.shape, plan.workload
    with_adamw = replace(workload, optimizer="adamw")
    units, group = plan.units, rollout.prompts_per_step * rollout.group_size
    kept = replace(workload, checkpointing=False)
    saved = activation_bytes(shape, kept, units.micro_batch_tokens) / plan.plan.activations
    averages = [optimizer_bytes(shape, w) / GIB for w in (workload, with_adamw)]
    kv = units.sequence_tokens * kv_bytes_per_token(shape, workload) / 2**20
    validation = LEVELS[source] * config.data.validation_problems * config.evaluation.samples
    most = group + rollout.prompts_per_step * config.explanation.samples
    assert units.rollouts_alive == group  # else they are not decoded all at once
    said = {
        "policy.gradient_checkpointing": f"a {saved:.0f}th of the activations;",
        "rollout.prompts_per_step": f"{group} rollouts, decoded all at once",
        "rollout.max_new_tokens": f"a rollout's KV cache takes {kv:.0f} MiB with the prompt",
        "optimizer.name": f"its averages take {averages[0]:.2f} GiB instead of {averages[1]:.2f}",
        "evaluation.every": f"a validation writes {validation} completions, a step {group} to {most}",
        "evaluation.samples": f"per problem: pass@1 and pass@{config.evaluation.samples}",
        "steps": f"{config.steps * rollout.prompts_per_step:,} problems drawn of {TRAINING_PROBLEMS[source]:,}",
    }
    if "GiB" in comments(name).get("policy.model", ""):
        said["policy.model"] = f"{weight_bytes(shape, workload) / GIB:.1f} GiB in 4 bit"
    return said


@pytest.mark.parametrize("name", CARD_PRESETS)
def test_figures_in_comments_are_the_plans(name: str) -> None:
    written = comments(name)
    assert {key: written.get(key, "") for key, said in figures(name).items() if said not in written.get(key, "")} == {}


UNPLANNED = {
    "data.test_problems": "before step 1",
    "memory.budget_gib": "a T4 reports about 14.6",
    "policy.model": "a T4 is slow",
    "policy.dtype": "a T4 has no bfloat16",
}


@pytest.mark.parametrize("name", CARD_PRESETS)
def test_no_figure_is_left_unchecked(name: str) -> None:
    """Every number of a comment is in what the plan says, or stands for no quantity of the plan."""
    said = figures(name)
    for key, comment in comments(name).items():
        rest = comment.replace(said.get(key, ""), "").replace(UNPLANNED.get(key, ""), "")
        assert not re.search(r"\d", rest), f"{key}: {comment}"


@pytest.mark.parametrize("name", CARD_PRESETS)
def test_the_whole_card_is_what_the_name_says(name: str) -> None:
    config = read_config(preset_path(name))
    if comments(name)["memory.budget_gib"] == "the whole card":
        assert f"{config.memory.budget_gib:g}gb" == name
    assert f"{config.policy.model.partition('/')[2]} on " in preset_path(name).read_text().partition("\n")[0]
