"""What the page offers its tabs: its events, and ways from one tab to another."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import gradio as gr

ANNOUNCED = "element.setAttribute('role', 'status')"
"""The `js_on_load` of a gr.HTML whose changes screen readers should say. The element stays while its text changes: one
that is put in the place of another is often not announced."""


@dataclass(frozen=True)
class Shell:
    """The page around a tab that is being laid out; `ids` are those of all tabs."""

    page: gr.Blocks
    tabs: gr.Tabs
    ids: Set[str]

    def leads_to(self, button: gr.Button, tab: str) -> None:
        """Make a button open another tab. It should not be shown where `tab` is not among `ids`."""
        if tab in self.ids:
            button.click(
                lambda: gr.Tabs(selected=tab),
                outputs=self.tabs,
                queue=False,
                show_progress="hidden",
                api_visibility="private",
            )
