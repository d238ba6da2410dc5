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

    `share`, from 0 to 1, is the estimated part of the phase's time that is over: most completions of a wave end late,
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
    """Counts `total` completions of at most `longest` tokens each as they are written, a wave at a time."""

    def __init__(self, total: int, longest: int, on_progress: OnProgress) -> None:
        self.total = total
        self.on_progress = on_progress
        self.done = self.tokens = 0  # of whole waves
        self.expected_steps = longest  # of a wave
        self.longest_wave = 0
        self.unfinished = self.last_look = self.ended_tokens = 0  # of the wave under way
        self._tell(0, 0, 0.0)

    def seen(self, rows: int, t: int, unfinished: int) -> None:
        """Of a wave's `rows`, so many are unfinished after their token `t`; a wave begins with t = 0.

        Tokens are counted from below: a row that has ended since the last look did so just after it.
        """
        if t == 0:
            self.unfinished, self.last_look, self.ended_tokens = rows, -1, 0
        self.ended_tokens += (self.unfinished - unfinished) * (self.last_look + 2)
        self.unfinished, self.last_look = unfinished, t
        over = rows * min(1.0, (t + 1) / self.expected_steps)
        self._tell(rows - unfinished, self.ended_tokens + unfinished * (t + 1), over)

    def written(self, completions: list[Completion]) -> list[Completion]:
        """A wave is over, with these, which are given back; the next may take as long as the longest so far."""
        lengths = [len(completion.completion_ids) for completion in completions]
        self.done += len(completions)
        self.tokens += sum(lengths)
        self.longest_wave = self.expected_steps = max(self.longest_wave, *lengths)
        self._tell(0, 0, 0.0)
        return completions

    def _tell(self, done: int, tokens: int, over: float) -> None:
        """What the wave under way adds to those before it; `over` in completions."""
        if self.total:
            share = (self.done + over) / self.total
            self.on_progress(
                PhaseProgress("", self.done + done, self.total, "completions", self.tokens + tokens, share)
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
