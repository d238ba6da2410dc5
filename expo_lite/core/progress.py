"""How far a piece of work is, told from inside it through one callback, from numbers that the host knows anyway.

Nothing is read from the device for it: the sampler looks every few tokens at which rows have finished anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from expo_lite.core.records import Completion, TrainingSequence


@dataclass(frozen=True)
class PhaseProgress:
    """`done` of `total` units of a phase ("completions", "sequences"), and the tokens that went through the model.

    `share`, from 0 to 1, is the estimated part of the phase's time that is over: many completions end late,
    and training takes as long as its tokens. Where several processes train, all this is about this one's part.
    """

    phase: str
    done: int
    total: int
    unit: str
    tokens: int
    share: float


OnProgress = Callable[[PhaseProgress], None]


def silent(progress: PhaseProgress) -> None:
    """Nobody is told."""


def in_phase(name: str, on_progress: OnProgress) -> OnProgress:
    """`on_progress` for work that does not know which phase it belongs to; a phase within it keeps its own name."""
    return lambda progress: on_progress(progress if progress.phase else replace(progress, phase=name))


@contextmanager
def announced(name: str, total: int, unit: str, on_progress: OnProgress) -> Iterator[None]:
    """Around work that says nothing itself: told when it begins and when it is over."""
    if total:
        on_progress(PhaseProgress(name, 0, total, unit, 0, 0.0))
    yield
    if total:
        on_progress(PhaseProgress(name, total, total, unit, 0, 1.0))


class DecodingProgress:
    """Counts `total` completions of at most `longest` tokens each as they are written."""

    def __init__(self, total: int, longest: int, on_progress: OnProgress) -> None:
        self.total = total
        self.on_progress = on_progress
        self.done = self.tokens = 0  # of completions that are whole
        self.limit, self.longest, self.share = longest, 0, 0.0
        self._tell(0, 0, 0.0)

    def seen(self, ended: Sequence[int], running: Sequence[int]) -> None:
        """Beside those that are whole, so many tokens have rows that have ended, and those still being written.

        A row is expected to become as long as the longest so far.
        """
        expected = max(self.longest, *ended, 0) or self.limit
        over = len(ended) + sum(min(1.0, tokens / expected) for tokens in running)
        self._tell(len(ended), sum(ended) + sum(running), over)

    def written(self, completions: Sequence[Completion]) -> None:
        """These are whole."""
        lengths = [len(completion.completion_ids) for completion in completions]
        self.done += len(completions)
        self.tokens += sum(lengths)
        self.longest = max(self.longest, *lengths, 0)

    def finished(self) -> None:
        """All are whole."""
        self._tell(0, 0, 0.0)

    def _tell(self, done: int, tokens: int, over: float) -> None:
        """What is being written adds to what is whole; `over` in completions."""
        if self.total:
            self.share = max(self.share, (self.done + over) / self.total)  # an estimate, and no reason to go back
            self.on_progress(
                PhaseProgress("", self.done + done, self.total, "completions", self.tokens + tokens, self.share)
            )


class ChunkProgress:
    """Counts `total` completions that are written in chunks, each of which tells of itself alone."""

    def __init__(self, phase: str, total: int, on_progress: OnProgress) -> None:
        self.phase = phase
        self.total = total
        self.on_progress = on_progress
        self.done = self.tokens = 0  # of whole chunks
        self.chunk_tokens = 0

    def within(self, chunk: PhaseProgress) -> None:
        """So far is the chunk under way; what it judges afterwards is part of it."""
        if not chunk.phase:
            self.chunk_tokens = chunk.tokens
            self._tell(chunk.done, chunk.share * chunk.total)

    def finished(self, done: int) -> None:
        """So many completions are in whole chunks now, those that were there before the first one among them."""
        self.done = done
        self.tokens += self.chunk_tokens
        self.chunk_tokens = 0
        self._tell(0, 0.0)

    def _tell(self, done: int, over: float) -> None:
        tokens, share = self.tokens + self.chunk_tokens, (self.done + over) / self.total
        self.on_progress(PhaseProgress(self.phase, self.done + done, self.total, "completions", tokens, share))


class SequenceProgress:
    """Counts sequences as micro-batches of them are done."""

    def __init__(self, sequences: Sequence[TrainingSequence], on_progress: OnProgress) -> None:
        self.total = len(sequences)
        self.total_tokens = sum(sequence.length for sequence in sequences)
        self.on_progress = on_progress
        self.done = self.tokens = 0
        self.add([])

    def add(self, sequences: Sequence[TrainingSequence]) -> None:
        """These are done."""
        self.done += len(sequences)
        self.tokens += sum(sequence.length for sequence in sequences)
        if self.total:
            share = self.tokens / self.total_tokens
            self.on_progress(PhaseProgress("", self.done, self.total, "sequences", self.tokens, share))
