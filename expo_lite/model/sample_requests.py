"""What a sampler is asked for, and how far it is with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from expo_lite.core.progress import DecodingProgress
from expo_lite.core.records import Completion

Watch = Callable[[tuple[object, ...], int, int], None]
"""Told of each token as it is written: the request's stream, the token's position, its id. It may raise to stop."""


@dataclass(frozen=True)
class SampleRequest:
    """`count` completions of one prompt. `stream` names their randomness: (7, "rollout", 3, "tiny/10+20").

    `adapter` False asks the base, also beside requests that ask the policy.
    """

    prompt_ids: list[int]
    count: int
    stream: tuple[object, ...]
    adapter: bool = True


@dataclass(frozen=True)
class Slot:
    """One completion to be written: its request, and the name of its random stream."""

    request: SampleRequest
    stream: tuple[object, ...]


@dataclass
class SampleJob:
    """What one call of `sample` is to write, and what of it is finished, by its number."""

    slots: list[Slot]
    longest: int
    temperature: float
    greedy: bool
    watch: Watch | None
    progress: DecodingProgress
    finished: dict[int, Completion] = field(default_factory=dict)

    @property
    def asks_base(self) -> bool:
        """Whether some completions are the base's: then PEFT's own layers tell the rows apart."""
        return not all(slot.request.adapter for slot in self.slots)
