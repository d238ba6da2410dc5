"""The sizes that a run works with: from its plan at first, smaller after an out-of-memory."""

from __future__ import annotations

from dataclasses import dataclass

from expo_lite.memory.plan import Units


@dataclass
class LiveUnits:
    """What may be alive at once, shared by sampler, explainer and trainer; see `expo_lite.memory.plan.Units`."""

    rollouts_alive: int
    micro_batch_tokens: int
    logprob_chunk: int
    halvings: int = 0

    @classmethod
    def planned(cls, units: Units) -> LiveUnits:
        """As the plan has them."""
        return cls(units.rollouts_alive, units.micro_batch_tokens, units.logprob_chunk)

    def halve_rollouts(self) -> None:
        """Decode half as many rollouts together from now on."""
        self.rollouts_alive = max(1, self.rollouts_alive // 2)
        self.halvings += 1

    def halve_micro_batch(self) -> None:
        """Train on half as many tokens together from now on."""
        self.micro_batch_tokens = max(1, self.micro_batch_tokens // 2)
        self.halvings += 1
