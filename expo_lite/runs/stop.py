"""Ending a run early, without losing anything: Ctrl-C, a scheduler's SIGTERM, or SIGHUP from a terminal that closes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HANGUP: int | None = getattr(signal, "SIGHUP", None)
"""Windows has none."""


class StopRequest:
    """Whether the run was asked to stop after the step under way."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def on_signal(self, note: Callable[..., None]) -> Iterator[None]:
        """Within it the first Ctrl-C (SIGTERM, SIGHUP) asks to stop, and says so through `note`; a second ends at once.

        Signals reach the main thread only; in another one nothing changes. What is printed after a terminal was closed
        goes nowhere, instead of ending the run. SIGHUP stays ignored under nohup.
        """
        terminals = [fd for fd in (1, 2) if os.isatty(fd)]

        def ask(number: int, frame: FrameType | None) -> None:
            if number == HANGUP:
                for fd in terminals:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
            if self.asked:
                if number == HANGUP:
                    return  # the shell's and the terminal's come one after the other
                raise KeyboardInterrupt
            self.asked = True
            note("Stopping after this step; press Ctrl-C again to stop at once.", style="yellow")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None]
        heard = [number for number in heard if number != HANGUP or signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, ask) for number in heard}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
