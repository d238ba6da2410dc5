"""What is being written in the rows that are decoded together: tokens, their log-probabilities, and where each ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from expo_lite.model.token_sampling import choose, uniform_stream


class RowBatch:
    """R rows of at most `longest` tokens. A row is begun, written a token at a time, and begun anew once it has ended.

    On the device: tokens (R, longest + 1), whose last column takes what follows an end, their log-probabilities, the
    random numbers (R, longest), where the next token goes, and who is done (R,).
    """

    def __init__(
        self, rows: int, longest: int, temperature: float, end_ids: Sequence[int], device: torch.device
    ) -> None:
        self.longest, self.temperature = longest, temperature
        self.of = [-1] * rows  # which completion each row writes
        self.lengths = [0] * rows  # tokens that were chosen for it
        self.looked = [0] * rows  # and when the host last looked
        self.end_ids = torch.tensor(end_ids, device=device)
        self.index = torch.arange(rows, device=device)
        self.at = torch.zeros(rows, dtype=torch.long, device=device)
        self.done = self.over = torch.zeros(rows, dtype=torch.bool, device=device)  # with, and before, the last token
        self.tokens = torch.full((rows, longest + 1), -1, device=device)
        self.logprobs = torch.zeros((rows, longest + 1), device=device)
        self.uniforms = torch.zeros((rows, longest), dtype=torch.float64, device=device)
        self.sound = torch.ones((), dtype=torch.bool, device=device)

    def begin(
        self, rows: Sequence[int], indices: Tensor, of: Sequence[int], streams: Sequence[tuple[object, ...]] | None
    ) -> None:
        """Rows begin with these completions, by random numbers of these names, or greedily without; `indices` are the
        rows on the device."""
        for row, number in zip(rows, of, strict=True):
            self.of[row], self.lengths[row], self.looked[row] = number, 0, 0
        self.at[indices], self.done[indices], self.tokens[indices] = 0, False, -1
        if streams is not None:
            numbers = np.stack([uniform_stream(stream, self.longest) for stream in streams])
            self.uniforms[indices] = torch.from_numpy(numbers).to(self.uniforms.device)

    def write(self, logits: Tensor, greedy: bool) -> Tensor:
        """Choose a token (R,) for each row by its logits (R, V)."""
        here = self.at.clamp(max=self.longest - 1)
        chosen, logprobs = choose(logits, self.temperature, None if greedy else self.uniforms[self.index, here])
        self.sound &= (logprobs.isfinite() | self.done).all()  # behind its end a row may hold anything
        column = torch.where(self.done, self.longest, here)
        self.tokens[self.index, column], self.logprobs[self.index, column] = chosen, logprobs
        self.at += 1
        self.over, self.done = self.done, self.done | torch.isin(chosen, self.end_ids) | (self.at >= self.longest)
        self.lengths = [min(length + 1, self.longest) for length in self.lengths]
        return chosen

    def tails(self, count: int) -> Tensor:
        """The last tokens (R, count) of each row; its first again where it has not so many."""
        back = torch.arange(count, 0, -1, device=self.at.device)
        return self.tokens[self.index[:, None], (self.at[:, None] - back).clamp(min=0, max=self.longest)].clamp(min=0)

    def keep(self, rows: Sequence[int], indices: Tensor) -> None:
        """Go on with these rows alone; `indices` are the same on the device."""
        for name in ("of", "lengths", "looked"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])
        for name in ("at", "done", "tokens", "logprobs", "uniforms"):
            setattr(self, name, getattr(self, name)[indices])
        self.index = self.index[: len(rows)]
