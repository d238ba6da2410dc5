"""Attention masks and positions of rows that are padded on the left, from lengths that the host knows.

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

from expo_lite.model.grouped_attention import ADD_MASKS, TAKE_TREES

FULL, SLIDING = "full_attention", "sliding_attention"
ALIGNED = 8  # elements: rows that begin at other places are copied by the memory-efficient kernel, in every layer

ModelMask = Tensor | dict[str, Tensor] | None


class LeftPadded:
    """B rows, the first `pads[row]` of their columns padding: masks for a model's layers, and token positions.

    Masks are added to attention's scores: (B, 1, queries, keys), 0 or the lowest number of `dtype`, so that rows of
    padding alone give numbers too. `config` is the model's, `room` the most columns there will ever be.
    """

    def __init__(self, pads: Sequence[int], room: int, config: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.pads = list(pads)
        self.kinds, self.window = layer_kinds(config)
        # else the model gets 2-D masks, from which transformers makes what its layers or its attention take
        self.own = self.kinds <= {FULL, SLIDING} and config._attn_implementation in ADD_MASKS
        self.dtype = dtype
        self.first = torch.tensor(self.pads, device=device)[:, None]  # (B, 1) each row's first token
        self.columns = torch.arange(room + -room % ALIGNED, device=device)
        self.decoding: Tensor | None = None  # (B, 1, 1, T) made when the first token asks for it

    @property
    def padded(self) -> bool:
        """Whether any row is; else no mask is needed, and attention takes its fastest kernel."""
        return any(self.pads)

    def prompt(self, width: int) -> tuple[ModelMask, Tensor]:
        """What the model is given with the first `width` columns: its mask, and positions (B, width)."""
        columns = self.columns[:width]
        positions = (columns - self.first).clamp(min=0)
        if not self.padded:
            return None, positions
        if not self.own:
            return (columns >= self.first).long(), positions
        keys, queries = self.columns[: width + -width % ALIGNED], columns[:, None]
        seen = (keys >= self.first[:, None, None]) & (keys <= queries)  # (B, 1, width, keys)
        near = seen if self.window is None else seen & (keys > queries - self.window)
        return self._by_kind(self._additive(seen)[..., :width], lambda: self._additive(near)[..., :width]), positions

    def token(self, filled: int) -> tuple[ModelMask, Tensor]:
        """The same for one more token, the last of `filled` columns: its mask, and positions (B, 1)."""
        positions = filled - 1 - self.first
        if not self.padded:
            return None, positions
        if not self.own:
            return (self.columns[:filled] >= self.first).long(), positions
        if self.decoding is None:
            self.decoding = self._additive(self.columns >= self.first[:, None, None])
        whole = self.decoding
        return self._by_kind(whole[..., :filled], lambda: last_columns(whole, filled, self.window)), positions

    def keep(self, rows: Sequence[int], indices: Tensor) -> None:
        """Go on with these rows; `indices` are the same on the device."""
        self.pads = [self.pads[row] for row in rows]
        self.first = self.first[indices]
        self.decoding = None if self.decoding is None else self.decoding[indices]

    def _additive(self, seen: Tensor) -> Tensor:
        lowest = torch.finfo(self.dtype).min
        return torch.zeros(seen.shape, dtype=self.dtype, device=seen.device).masked_fill_(~seen, lowest)

    def _by_kind(self, full: Tensor, sliding: Any) -> ModelMask:
        """As the model takes it: one mask, or one for each kind of layer."""
        if self.kinds == {FULL}:
            return full
        return sliding() if self.kinds == {SLIDING} else {FULL: full, SLIDING: sliding()}


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


def last_columns(mask: Tensor, filled: int, window: int | None) -> Tensor:
    """Of the first `filled` columns those in the window, from an aligned place on."""
    if window is None or filled <= window:
        return mask[..., :filled]
    return torch.nn.functional.pad(mask[..., filled - window : filled], (0, -window % ALIGNED))[..., :window]


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
