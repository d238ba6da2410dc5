"""The tab "Will it fit?": settings in, the plan out, at every change. No GPU, no model, no network."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gradio as gr

from expo_lite.app.context import AppContext
from expo_lite.app.fit.answer import FitQuestion, fit, models, preset_values
from expo_lite.app.fit.board import error_html, fit_html, verdict_html
from expo_lite.app.run_list import own_models
from expo_lite.app.shell import ANNOUNCED, QUIET, Shell
from expo_lite.config.presets import preset_summary, presets
from expo_lite.core.errors import ExpoLiteError
from expo_lite.memory.cards import CARDS

FIRST_PRESET = "8gb"
NO_CARD = ""


def build(context: AppContext, shell: Shell) -> None:
    """Lay the tab out and wire it."""
    first = preset_values(FIRST_PRESET)
    answer = answering(context.root)
    verdict_now, plan_now, line = answer(*_fields(first))
    with gr.Row(elem_classes="fit-row"):
        with gr.Column(scale=2, min_width=300, elem_classes="asking fit-form"):
            fields = _form(first, own_models(context.root))
        with gr.Column(scale=3, min_width=300):
            verdict = gr.HTML(verdict_now, elem_id="fit-verdict", js_on_load=ANNOUNCED)
            board = gr.HTML(plan_now, elem_id="fit-board")
            command = gr.Textbox(
                line,
                label="The same in a terminal",
                interactive=False,
                lines=2,
                max_lines=6,
                buttons=["copy"],
                elem_id="fit-command",
            )
    preset, card, budget = fields[0], fields[1], fields[3]
    latest: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
    answered = [verdict, board, command]
    preset.input(lambda name: _fields(preset_values(name))[1:], preset, fields[1:], **latest).then(
        answer, fields, answered, **QUIET
    )
    card.input(lambda name: CARDS[name].gib if name in CARDS else gr.skip(), card, budget, **latest)
    gr.on([field.change for field in fields[1:]], answer, fields, answered, **latest)


def answering(root: Path) -> Callable[..., tuple[str, str, str]]:
    """From the form's values, in the order of `FitQuestion`, to the verdict, the plan and the command line."""

    def answer(*values: Any) -> tuple[str, str, str]:
        try:
            found = fit(FitQuestion(values[0], values[1] or None, *values[2:]), own_models(root))
        except ExpoLiteError as error:
            return error_html(str(error)), "", ""
        return verdict_html(found), fit_html(found), found.command

    return answer


def _fields(asked: FitQuestion) -> list[Any]:
    return [getattr(asked, name) if name != "card" else asked.card or NO_CARD for name in FitQuestion.__annotations__]


def _form(first: FitQuestion, own: Collection[str]) -> list[Any]:
    """The fields in the order of `FitQuestion`."""
    preset = gr.Dropdown(
        [(f"{name}: {preset_summary(name).partition('. ')[0]}", name) for name in presets()],
        value=first.preset,
        label="Start from a preset",
        elem_id="fit-preset",
    )
    with gr.Row():
        card = gr.Dropdown(_cards(), value=NO_CARD, label="Card", elem_id="fit-card", min_width=160)
        budget = _number(first.budget_gib, "Budget (GiB)", "memory.budget_gib", "fit-budget", precision=None)
    model = gr.Dropdown(
        models(own),
        value=first.model,
        allow_custom_value=True,
        label="Model: pick one, or type a Hub id that was downloaded here",
        elem_id="fit-model",
    )
    with gr.Row():
        prompt = _number(first.prompt_tokens, "Longest prompt (tokens)", "rollout.max_prompt_tokens", "fit-prompt")
        new = _number(first.new_tokens, "Longest completion (tokens)", "rollout.max_new_tokens", "fit-new")
    with gr.Row():
        prompts = _number(first.prompts, "Prompts per step", "rollout.prompts_per_step", "fit-prompts")
        group = _number(first.group, "Group size", "rollout.group_size", "fit-group")
    with gr.Row():
        rank = _number(first.rank, "LoRA rank", "policy.lora_rank", "fit-rank")
        optimizer = gr.Radio(
            ["adamw", "adamw_8bit"], value=first.optimizer, label="Optimizer", elem_id="fit-optimizer", min_width=160
        )
    checkpointing = gr.Checkbox(
        first.checkpointing,
        label="Gradient checkpointing: less memory, training half as long again",
        elem_id="fit-checkpointing",
    )
    return [preset, card, model, budget, prompt, new, prompts, group, rank, optimizer, checkpointing]


def _number(value: Any, label: str, setting: str, elem_id: str, precision: int | None = None) -> gr.Number:
    # no minimum or precision: what is wrong with a value is said by the configuration, in its words
    return gr.Number(value, label=label, info=setting, precision=precision, elem_id=elem_id, min_width=140)


def _cards() -> list[tuple[str, str]]:
    return [("none named", NO_CARD), *((f"{name} ({card.gib:g} GiB)", name) for name, card in CARDS.items())]
