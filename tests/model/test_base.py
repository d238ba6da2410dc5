"""The shipped base through transformers alone: what its record says must be what anybody sees."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from expo_lite.config.model_files import tiny_base
from expo_lite.config.presets import preset_path
from expo_lite.config.read import read_config
from expo_lite.model.prompts import fill
from expo_lite.problems import tiny_world

PROBLEMS, SAMPLES = 48, 4
TOLERANCE = 0.1  # two samples of about 200 completions each, and NF4 against 16 bit


@pytest.fixture(scope="module")
def base():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(tiny_base(), dtype=torch.float32), AutoTokenizer.from_pretrained(
        tiny_base()
    )


@pytest.fixture(scope="module")
def recorded():
    return {row["level"]: row for row in json.loads((tiny_base() / "build.json").read_text())["quality"]}


def answers(base, problems, template: str) -> list[str]:
    """SAMPLES completions of each problem, by `generate`."""
    model, tokenizer = base
    contents = [fill(template, question=p.question, answer=p.answer) for p in problems]
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": c}], add_generation_prompt=True, tokenize=False)
        for c in contents
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    output = model.generate(
        **batch, do_sample=True, temperature=0.7, top_k=0, top_p=1.0, max_new_tokens=72, num_return_sequences=SAMPLES
    )
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("level", tiny_world.LEVELS)
@pytest.mark.parametrize("prompt", ["task", "hinted"])
def test_transformers_alone_reproduces_the_level_table(base, recorded, level, prompt):
    problems = tiny_world.problems("test", level, PROBLEMS)
    template = getattr(read_config(preset_path("tiny")).prompt, prompt)
    texts = answers(base, problems, template)
    right = [f"\\boxed{{{problems[i // SAMPLES].answer}}}" in text for i, text in enumerate(texts)]
    name = {"task": "unhinted_pass_at_1", "hinted": "hinted_answer_right"}[prompt]
    assert sum(right) / len(right) == pytest.approx(recorded[level][name], abs=TOLERANCE)


def test_the_base_is_the_papers_setting(recorded):
    """Easy levels solved, hard ones out of reach, explained well when the answer is told."""
    for level in (1, 2, 3):
        assert recorded[level]["unhinted_pass_at_1"] > 0.9
    assert recorded[4]["unhinted_pass_at_4"] < 0.1
    assert recorded[5]["unhinted_pass_at_4"] < 0.02
    for level in tiny_world.LEVELS:
        assert recorded[level]["hinted_answer_right"] > 0.9
    for level in (4, 5):  # on easy levels both ways are natural to it
        assert recorded[level]["self_explanation_nll_nats"] < recorded[level]["expert_solution_nll_nats"] / 2


def test_the_leak_filter_finds_the_planted_leaks(recorded):
    for row in recorded.values():
        assert row["leak_filter_precision"] == 1 and row["leak_filter_recall"] >= 0.95
