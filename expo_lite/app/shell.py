"""What the page offers its tabs: its events, and ways from one tab to another."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import gradio as gr

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For the events of a page that answer at once."""
ANNOUNCED = "element.setAttribute('role', 'status')"
"""The `js_on_load` of a gr.HTML whose changes screen readers should say. The element stays while its text changes: one
that is put in the place of another is often not announced."""


@dataclass(frozen=True)
class Shell:
    """The page around a tab that is being laid out; `ids` are those of all tabs.

    `to_compare` holds the trained model that another tab asked Compare to show, until Compare has chosen it.
    """

    page: gr.Blocks
    tabs: gr.Tabs
    ids: Set[str]
    to_compare: gr.State

    def leads_to(self, button: gr.Button, tab: str) -> None:
        """Make a button open another tab. It should not be shown where `tab` is not among `ids`."""
        if tab in self.ids:
            button.click(lambda: gr.Tabs(selected=tab), outputs=self.tabs, **QUIET)

    def compares(self, button: gr.Button, name: gr.State) -> None:
        """Make a button open Compare with the trained model of this name."""
        button.click(lambda name: (gr.Tabs(selected="compare"), name), name, [self.tabs, self.to_compare], **QUIET)
