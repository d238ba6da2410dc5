"""Several processes that train one policy, each on its own GPU: `accelerate launch -m expo_lite.train ...`.

Every rank holds the same weights and goes through the same steps. What takes time is dealt out (completions, verdicts,
gradients), and what comes of it is gathered by all before it is used. So all ranks decide the same, and a step reads as
if there were one process; random numbers have names, so on the CPU in float32 what is sampled does not depend on how
many ranks there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from expo_lite.core.errors import ExpoLiteError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """This process (`index` from 0) among `count`. By itself, everything here is done at once and changes nothing."""

    index: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> Ranks:
        """The processes that a launcher has started together, now connected; one process without a launcher."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from accelerate import PartialState  # late: a run without a launcher needs none of it

        state = PartialState(cpu=not torch.cuda.is_available())  # takes the GPU that is this rank's
        return cls(state.process_index, state.num_processes)

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `count`-th item, from `index` on: this rank's part of the work."""
        return items[self.index :: self.count]

    def each(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """`work(items)`, which gives one result for each item, with each rank working on its share of them.

        All ranks must come here together; a rank whose share is empty does no work and gets the others' results. What
        one of them raises, an ExpoLiteError, is raised by all.
        """
        if self.count == 1:
            return list(work(items))
        own = self.share(items)
        try:
            part: Any = list(work(own)) if own else []
        except ExpoLiteError as error:
            part = error
        results: list[Any] = [None] * len(items)
        for index, found in enumerate(self.gathered(part)):
            if isinstance(found, ExpoLiteError):  # all end alike, and the first one says why
                raise found
            results[index :: self.count] = found
        return results

    def gathered(self, value: Result) -> list[Result]:
        """Every rank's value, in the order of ranks."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])

    def of_first(self, value: Result) -> Result:
        """The first rank's value: for what is computed on every device, where rounding may differ."""
        return self.gathered(value)[0]

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return any(self.gathered(flag))

    def wait(self) -> None:
        """Go on once all ranks have come here."""
        self.gathered(None)

    def summed(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Numbers by name, added up over the ranks that have them."""
        if self.count == 1:
            return dict(numbers)
        parts = self.gathered(dict(numbers))
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: sum(part.get(name, 0.0) for part in parts) for name in names}

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up the gradients of all ranks, in place; a rank without gradients adds none."""
        if self.count == 1:
            return
        parameters = list(parameters)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.nn.utils.parameters_to_vector(gradients)  # one message
        torch.distributed.all_reduce(flat)
        for parameter, total in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = total.view_as(parameter)


ALONE = Ranks()
"""One process."""
