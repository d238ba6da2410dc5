"""The page: what ExPO is, in one sentence and three steps, above the tabs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.exceptions import ComponentProcessingError
from gradio.themes import Base, Font

from expo_lite.app.compare import tab as compare_tab
from expo_lite.app.context import AppContext
from expo_lite.app.fit import tab as fit_tab
from expo_lite.app.runs import tab as runs_tab
from expo_lite.app.shell import Shell
from expo_lite.app.train import tab as train_tab


@dataclass(frozen=True)
class Tab:
    """A tab's id, its label, and the function that lays it out."""

    id: str
    label: str
    build: Callable[[AppContext, Shell], None]


TABS = (
    Tab("compare", "Compare", compare_tab.build),
    Tab("train", "Train live", train_tab.build),
    Tab("runs", "Runs", runs_tab.build),
    Tab("fit", "Will it fit?", fit_tab.build),
)
"""In their order; a new tab is a file with a `build` and a line here."""

QUEUED = 64
"""Events that may wait in gradio's queue; more are refused."""
SECONDS_BETWEEN_LOOKS = 0.02
"""How often gradio looks into its empty queue. Its own 1 ms would keep a tenth of a core busy with an idle page."""
LONGEST_REFUSAL = 200
"""Characters of gradio's own words that are repeated: they hold what was refused."""
HEADER = """
<header class="hero">
<h1>ExPO<span>-Lite</span></h1>
<p>Where a model fails every time, plain reinforcement learning has nothing to learn from. <strong>ExPO tells it the
known answer, lets it explain the way there in its own words, and trains it on that with the answer hidden.</strong></p>
<ol class="steps">
<li><span class="step">1</span>tries and fails</li>
<li><span class="step">2</span>explains the known answer to itself</li>
<li><span class="step">3</span>learns with the answer hidden</li>
</ol>
</header>
"""
CSS = Path(__file__).with_name("style.css")


def theme() -> Base:
    """Calm colours and the reader's own system fonts: nothing is fetched from anywhere."""
    sans = [Font(name) for name in ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")]
    mono = [Font(name) for name in ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")]
    base = Base(primary_hue="indigo", neutral_hue="slate", font=sans, font_mono=mono, radius_size="lg")
    return base.set(
        body_background_fill="#f7f8fb",
        body_background_fill_dark="#12151c",
        block_background_fill="*background_fill_primary",
        background_fill_primary_dark="#1a1e27",
        block_border_width="0px",
        block_label_background_fill="transparent",
        block_shadow="none",
        input_background_fill="#ffffff",
        input_background_fill_dark="#12151c",
        input_border_color="#d7dbe4",
        input_border_color_dark="#39414f",
        button_primary_background_fill="#4f46e5",
        button_primary_background_fill_hover="#4338ca",
        button_primary_background_fill_dark="#5457ec",
        body_text_color_subdued="#566073",
        block_title_text_color="#566073",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_border_color="#c9cfda",
        button_secondary_border_color_dark="#465063",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover="#eceffa",
        button_secondary_background_fill_hover_dark="#262d3a",
        button_border_width="1px",
        input_border_width="1px",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_selected="#eceffe",
        checkbox_label_background_fill_selected_dark="#2a2f52",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="#d7dbe4",
        checkbox_label_border_color_dark="#39414f",
    )


class Page(gr.Blocks):
    """Blocks whose fields refuse a value in a sentence: gradio would print a traceback in the terminal as well.

    It happens to honest users too: a page that is older than the app holds choices that are no more.
    """

    async def preprocess_data(self, *given: Any, **named: Any) -> list[Any]:
        """The inputs of an event as its function takes them. Raises gr.Error."""
        try:
            return await super().preprocess_data(*given, **named)
        except (gr.Error, ComponentProcessingError) as error:
            why = str(getattr(error, "message", error))
            raise gr.Error(
                f"{why[:LONGEST_REFUSAL]}. Reload the page and choose again.", print_exception=False
            ) from None


def build_page(context: AppContext) -> gr.Blocks:
    """The whole page, not yet launched."""
    with Page(title="ExPO-Lite", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(HEADER, elem_id="header")
        to_compare = gr.State("")  # not inside the tabs: it would take the place of one
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            shell = Shell(page, tabs, {tab.id for tab in TABS}, to_compare)
            for tab in TABS:
                with gr.Tab(tab.label, id=tab.id):
                    # for screen readers, whose users walk from heading to heading: it stands above the tab's own
                    gr.HTML(f"<h2>{tab.label}</h2>", elem_classes="unseen")
                    tab.build(context, shell)
    page.queue(max_size=QUEUED, default_concurrency_limit=8)
    page._queue.sleep_when_free = SECONDS_BETWEEN_LOOKS
    return page
