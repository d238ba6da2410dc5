"""One thread owns the model and does one job at a time; users hold tickets, from which they read events.

A view must never touch the model: its generator runs in any thread, and may be closed between two lines. So it only
drains a ticket's queue, and a ticket that nobody reads any more stops its job.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from expo_lite.core.errors import ExpoLiteError

logger = logging.getLogger(__name__)

MOST_WAITING = 16
PATIENCE_SECONDS = 10.0
"""A ticket that nobody has read from for so long belongs to a user who left."""
STOPS_REMEMBERED = 256
"""Users whose last Stop is remembered, for a press that arrives after it; longer than any press is under way."""

Model = TypeVar("Model")
Emit = Callable[[Any], None]


class Stopped(Exception):
    """Raised inside a job whose ticket was stopped."""


@dataclass(frozen=True)
class Waiting:
    """How many jobs come before this one."""

    before: int


@dataclass(frozen=True)
class Done:
    """The job's end, with what it returned."""

    result: Any


@dataclass(frozen=True)
class Failed:
    """The job's end, with a sentence for the user."""

    sentence: str


@dataclass(frozen=True)
class _Stop:
    """A user's newest Stop: the last press it was meant for, and whether the reader then has nothing to say."""

    press: float
    silently: bool


_END = object()


class Ticket:
    """One job of one user: events come out, and it can be stopped from any thread."""

    def __init__(self, user: str, job: Callable[[Any, Emit], Any]) -> None:
        self.user = user
        self.job = job
        self.is_silent = False
        self._events: queue.Queue[Any] = queue.Queue()
        self._stopped = threading.Event()
        self._read_at = time.monotonic()

    def stop(self) -> None:
        """End the job as soon as it next emits, and `events` at once."""
        self._stopped.set()
        self._events.put(_END)

    @property
    def is_stopped(self) -> bool:
        """Whether the user stopped it, or left."""
        return self._stopped.is_set() or time.monotonic() - self._read_at > PATIENCE_SECONDS

    def emit(self, event: Any) -> None:
        """Hand an event to the user. Raises Stopped if there is no one to hand it to."""
        if self.is_stopped:
            raise Stopped
        self.tell(event)

    def tell(self, event: Any) -> None:
        """Hand an event over, whether anyone reads it or not."""
        self._events.put(event)

    def finish(self, event: Any) -> None:
        """Hand over the last event."""
        self.tell(event)
        self.tell(_END)

    def events(self) -> Iterator[Any]:
        """Everything emitted, up to Done or Failed; ends without them if stopped. Closing it stops the job."""
        try:
            while not self._stopped.is_set():
                self._read_at = time.monotonic()
                try:
                    event = self._events.get(timeout=PATIENCE_SECONDS / 4)
                except queue.Empty:
                    continue
                if event is _END or self._stopped.is_set():
                    return
                yield event
        finally:
            self._stopped.set()


class ModelWorker(Generic[Model]):
    """Jobs in, events out. Users take turns in order of asking; each has one job, and a new one replaces it."""

    def __init__(self, open_model: Callable[[], Model]) -> None:
        """Start opening the model; `wait_until_open` says how that went."""
        self._waiting: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._stops: dict[str, _Stop] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._open_error: BaseException | None = None
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(open_model,), name="model-worker", daemon=True)
        self._thread.start()

    def wait_until_open(self) -> None:
        """Return when the model is ready; raises what opening it raised."""
        self._is_open.wait()
        if self._open_error is not None:
            raise self._open_error

    def submit(self, user: str, job: Callable[[Model, Emit], Any], press: float = inf) -> Ticket:
        """Queue a job. Raises ExpoLiteError if too many are waiting.

        `press` numbers the user's presses. Requests can overtake each other: a press whose Stop was here first is
        not begun.
        """
        ticket = Ticket(user, job)
        with self._changed:
            last = self._stops.get(user)
            if last is not None and press <= last.press:
                ticket.is_silent = last.silently
                ticket.stop()
                return ticket
            self._stop_tickets_of(user)
            if len(self._waiting) >= MOST_WAITING:
                raise ExpoLiteError(f"{MOST_WAITING} users are waiting already; try again in a minute.")
            self._waiting.append(ticket)
            self._tell_places()
            self._changed.notify()
        return ticket

    def stop(self, user: str, silently: bool = False, press: float = -inf) -> None:
        """Stop what the user has waiting or running, and presses up to number `press` that have not arrived yet.

        `silently` where its reader has nothing more to say.
        """
        with self._changed:
            self._stop_tickets_of(user, silently)
            self._stops.pop(user, None)  # the newest stands last
            self._stops[user] = _Stop(press, silently)
            while len(self._stops) > STOPS_REMEMBERED:
                del self._stops[next(iter(self._stops))]

    def was_silenced(self, user: str, press: float) -> bool:
        """Whether the user's newest Stop was a silent one, and meant for this press too."""
        with self._changed:
            last = self._stops.get(user)
        return last is not None and last.silently and press <= last.press

    def close(self) -> None:
        """Stop everything and wait for the thread to end."""
        with self._changed:
            self._closed = True
            for ticket in [*self._waiting, *([self._running] if self._running else [])]:
                ticket.stop()
            self._changed.notify()
        self._thread.join()

    def _stop_tickets_of(self, user: str, silently: bool = False) -> None:
        mine = [t for t in (*self._waiting, self._running) if t is not None and t.user == user]
        for ticket in mine:
            ticket.is_silent = silently
            ticket.stop()
        self._drop_stopped()

    def _drop_stopped(self) -> None:
        for ticket in self._waiting:
            if ticket.is_stopped:
                ticket.stop()
        self._waiting = deque(t for t in self._waiting if not t.is_stopped)

    def _tell_places(self) -> None:
        busy = int(self._running is not None)
        for place, ticket in enumerate(self._waiting):
            if place + busy:
                ticket.tell(Waiting(place + busy))

    def _work(self, open_model: Callable[[], Model]) -> None:
        try:
            model = open_model()
        except BaseException as error:
            self._open_error = error
            return
        finally:
            self._is_open.set()
        try:
            while (ticket := self._next()) is not None:
                _do(ticket, model)
        finally:
            close = getattr(model, "close", None)
            if close is not None:
                close()

    def _next(self) -> Ticket | None:
        """The next job; None when closed."""
        with self._changed:
            self._running = None
            while not self._closed:
                self._drop_stopped()
                if self._waiting:
                    self._running = self._waiting.popleft()
                    self._tell_places()
                    return self._running
                self._changed.wait()
            return None


def _do(ticket: Ticket, model: Any) -> None:
    """Run one job to its end; whatever it raises is the user's to read, and the worker lives on."""
    try:
        ticket.finish(Done(ticket.job(model, ticket.emit)))
    except Stopped:
        ticket.stop()  # also for a reader who was away for too long and comes back
    except ExpoLiteError as error:
        ticket.finish(Failed(str(error)))
    except Exception as error:
        logger.exception("A job of the app failed")
        name = type(error).__name__
        ticket.finish(Failed(f"Something went wrong inside the app ({name}); its terminal shows the details."))
