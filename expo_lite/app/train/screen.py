"""The run that a user of the Train tab watches: controls, curves, failed problems, and what a look puts there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from expo_lite.app.run_list import choices, list_runs
from expo_lite.app.shell import Shell
from expo_lite.app.text import DELIMITERS
from expo_lite.app.train.live import NEWEST
from expo_lite.app.train.watch import FeedView, RunView, Watch

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Screen:
    """The run that a user watches.

    `name` is its name, `page` the page of the feed, `seen` the stamp of what is on the screen.
    """

    run: gr.Dropdown
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    progress: gr.HTML
    charts: gr.HTML
    numbers: gr.HTML
    table: gr.Accordion
    feed_title: gr.HTML
    newer: gr.Button
    older: gr.Button
    feed: gr.Markdown
    timer: gr.Timer
    name: gr.State
    page: gr.State
    seen: gr.State

    @property
    def fed(self) -> list[Any]:
        """What another page of the feed changes."""
        return [self.feed_title, self.newer, self.older, self.feed]

    @property
    def live(self) -> list[Any]:
        """What a look may change."""
        shown = [self.progress, self.charts, self.numbers, self.table, *self.fed]
        return [*shown, self.stop, self.resume, self.compare, self.timer, self.seen]

    @property
    def looking(self) -> list[Any]:
        """What another run changes."""
        return [self.name, self.page, *self.live]


def lay_out(watch: Watch, shell: Shell) -> Screen:
    """The run's part of the tab, still empty."""
    with gr.Row(elem_classes="watching"):
        run = gr.Dropdown(
            choices(list_runs(watch.trainings.root)),
            value=None,
            label="Run on the screen",
            elem_id="train-run",
            scale=4,
            min_width=240,
        )
        stop = gr.Button("Stop", elem_id="train-stop", interactive=False, min_width=90)
        resume = gr.Button("Resume", elem_id="train-resume", interactive=False, min_width=90)
        compare = gr.Button("Compare before and after", elem_id="train-compare", visible=False, min_width=240)
    progress = gr.HTML("", elem_id="train-progress")
    charts = gr.HTML("", elem_id="train-charts")
    # not a <details> among the charts: what is drawn anew every second would close it
    with gr.Accordion("These curves as numbers", open=False, visible=False, elem_id="train-table") as table:
        numbers = gr.HTML("", elem_id="train-numbers")
    with gr.Row(elem_classes="feed-head"):
        feed_title = gr.HTML("", elem_id="train-feed-title")
        newer = gr.Button("‹ Newer", elem_id="feed-newer", visible=False, scale=0, min_width=96)
        older = gr.Button("Older ›", elem_id="feed-older", visible=False, scale=0, min_width=96)
    feed = gr.Markdown("", latex_delimiters=DELIMITERS, elem_id="train-feed", elem_classes="board")
    timer = gr.Timer(SECONDS_BETWEEN_LOOKS, active=False)
    shown = (progress, charts, numbers, table, feed_title, newer, older, feed)
    shell.compares(compare, name := gr.State(""))
    return Screen(run, stop, resume, compare, *shown, timer, name, gr.State(NEWEST), gr.State(""))


def looking(watch: Watch, name: str) -> tuple[Any, ...]:
    """Values for `Screen.looking`: another run, from its newest page on."""
    return name, NEWEST, *live(watch, name, watch.look(name))


def live(watch: Watch, name: str, shown: RunView | None) -> tuple[Any, ...]:
    """Values for `Screen.live`, None where there is nothing new. The timer runs only while the run does."""
    if shown is None:
        return (gr.skip(),) * 13
    standing = shown.standing
    return (
        shown.progress,
        shown.charts,
        shown.numbers,
        gr.Accordion(visible=bool(shown.numbers)),
        *fed(shown.feed),
        gr.Button(interactive=shown.is_active and standing is not None and standing.state != "stopping"),
        gr.Button(interactive=standing is not None and standing.can_resume),
        gr.Button(visible=standing is not None and standing.state == "finished" and watch.fits(name)),
        gr.Timer(active=shown.is_active),
        shown.stamp,
    )


def fed(feed: FeedView) -> tuple[Any, ...]:
    """Values for `Screen.fed`; who can turn no page is shown no buttons."""
    page = feed.page
    can_turn = page.newer is not None or page.older is not None
    newer, older = (gr.Button(visible=can_turn, interactive=beside is not None) for beside in (page.newer, page.older))
    return feed.title, newer, older, feed.problems
