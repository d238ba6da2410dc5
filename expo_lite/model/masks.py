"""Where the rows that are decoded together stand: positions, and attention masks from lengths that the host knows.

transformers' own builder looks at a mask's values, to do without where nothing is masked: on a GPU the host then waits
for every token that is decoded. And its mask is boolean, which attention turns into numbers in every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, masking_utils

from expo_lite.core.errors import ConfigError
from expo_lite.model.grouped_attention import ADD_MASKS, TAKE_TREES

FULL, SLIDING = "full_attention", "sliding_attention"
ALIGNED = 8  # elements: rows that begin at other places are copied by the memory-efficient kernel, in every layer

ModelMask = Tensor | dict[str, Tensor] | None


class DecodingRows:
    """Rows of a cache with `capacity` columns, each filled from column 0 on: a prompt and what was written after it.

    A row's tokens stand in the columns of their positions. Masks are added to attention's scores: 0 or the lowest
    number of `dtype`. `config` is the model's. Raises ConfigError where its attention cannot be told so.
    """

    def __init__(self, count: int, capacity: int, config: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.kinds, self.window = layer_kinds(config)
        if not self.kinds <= {FULL, SLIDING} or config._attn_implementation not in ADD_MASKS:
            raise ConfigError(
                f"policy.model: its attention ({', '.join(sorted(self.kinds))}; {config._attn_implementation}) is none "
                "that can be sampled from here; name another one"
            )
        self.capacity = capacity
        self.lengths = [0] * count
        self.running: list[int] = []  # rows that are begun, and not known to the host to have ended
        self.next_cells: dict[int, Tensor] = {}  # by number of heads: the same in every layer
        self.span = 1  # columns that attention looks at
        self.index = torch.arange(count, device=device)
        self.filled = torch.zeros(count, dtype=torch.long, device=device)  # columns that are filled, by row
        self.zero = torch.zeros((), dtype=dtype, device=device)
        self.lowest = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=device)
        self.columns = torch.arange(capacity + -capacity % ALIGNED, device=device)

    def put(self, rows: Sequence[int], indices: Tensor, lengths: Sequence[int]) -> None:
        """Let these rows begin anew, with prompts of so many tokens; `indices` are the same on the device."""
        for row, length in zip(rows, lengths, strict=True):
            self.lengths[row] = length
        self.filled[indices] = torch.tensor(lengths, device=self.filled.device)
        self.running = sorted({*self.running, *rows})

    @property
    def needed(self) -> int:
        """Columns that are filled with the next token, in the longest row that is still being written."""
        return 1 + max(self.lengths[row] for row in self.running)

    def token(self, columns: int | None = None) -> tuple[ModelMask, Tensor]:
        """What the model is given with one more token of each row: its mask (rows, 1, 1, span), positions (rows, 1).

        No mask where all rows are as long and see all of them: attention takes its fastest kernel. Given a number of
        `columns`, at least as many as are needed, they are the span, there always is a mask, and no length that the
        host knows goes into it: what follows may be run again once the rows are longer.
        """
        self.next_cells = {}
        positions = self.filled[:, None]
        self.span = span = self.needed if columns is None else columns
        window = self.window
        if columns is None:
            alike = len({self.lengths[row] for row in self.running}) == 1 and len(self.running) == len(self.lengths)
            if alike and (window is None or span <= window):
                return None, positions
        places, filled = self.columns[: span + -span % ALIGNED], self.filled[:, None, None, None]
        seen = places <= filled

        def sliding() -> Tensor:
            assert window is not None
            return self._additive(seen & (places > filled - window))[..., :span]

        if self.kinds == {SLIDING}:
            return sliding(), positions
        full = self._additive(seen)[..., :span]
        return (full if self.kinds == {FULL} else {FULL: full, SLIDING: sliding()}), positions

    def cells(self, heads: int) -> Tensor:
        """Where the next token's states go (rows heads,) in a cache (rows heads capacity, width)."""
        if heads not in self.next_cells:
            rows = self.index[:, None] * heads + torch.arange(heads, device=self.filled.device)
            self.next_cells[heads] = (rows * self.capacity + self.filled[:, None]).flatten()
        return self.next_cells[heads]

    def written(self) -> None:
        """Each row has got its token. Rows that have ended stay within their capacity."""
        self.lengths = [min(length + 1, self.capacity - 1) for length in self.lengths]
        self.filled.add_(1).clamp_(max=self.capacity - 1)

    @property
    def idle(self) -> list[int]:
        """The other rows: what is written in them is not looked at."""
        running = set(self.running)
        return [row for row in range(len(self.lengths)) if row not in running]

    def keep(self, rows: Sequence[int], indices: Tensor) -> None:
        """Go on with these rows, all of them running; `indices` are the same on the device."""
        self.lengths = [self.lengths[row] for row in rows]
        self.running = list(range(len(rows)))
        self.index, self.filled = self.index[: len(rows)], self.filled[indices]

    def _additive(self, seen: Tensor) -> Tensor:
        return torch.where(seen, self.zero, self.lowest)


def layer_kinds(config: Any) -> tuple[set[str], int | None]:
    """The kinds of attention that a model's layers have, in transformers' words, and the window of sliding ones."""
    text = config.get_text_config(decoder=True)
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        chunked = getattr(text, "attention_chunk_size", None) is not None
        kinds = [SLIDING if window is not None else "chunked_attention" if chunked else FULL]
    return set(kinds), window if SLIDING in kinds else None


def takes_trees(model: PreTrainedModel) -> bool:
    """Whether a model can be given a `PrefixTree`: every layer looks at all tokens before, by an attention that knows
    trees, and all modules on the way pass on what that is to be told."""
    ours = model.config._attn_implementation in TAKE_TREES
    return ours and layer_kinds(model.config)[0] == {FULL} and bool(model._supports_attention_backend)


@contextmanager
def one_sequence_per_row() -> Iterator[None]:
    """Within it, transformers does not look through positions for several sequences in a row.

    Where there is neither mask nor cache (in training) it does so in every forward, and the host waits for the device.
    """
    look = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = look
