"""Ending a run early, without losing anything: Ctrl-C, or SIGTERM as a scheduler sends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether the run was asked to stop after the step under way."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def on_signal(self, note: Callable[..., None]) -> Iterator[None]:
        """Within it the first Ctrl-C (or SIGTERM) asks to stop, and says so through `note`; a second one ends at once.

        Signals reach the main thread only; in another one nothing changes.
        """

        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            note("Stopping after this step; press Ctrl-C again to stop at once.", style="yellow")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
