"""A KV cache that is allocated once per wave, at its full length.

transformers' dynamic cache concatenates for every token, which copies the cache each time and leaves
fragments of every length behind: on a GPU it can reserve more than twice what it holds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values (rows, heads, length, head width); `keys` and `values` show what is filled."""

    keys: Tensor  # type: ignore[assignment]
    values: Tensor  # type: ignore[assignment]

    def __init__(self, like: DynamicLayer, rows: int, length: int) -> None:
        """Room for `rows` rows of `length` tokens, shaped as those of a filled layer; no row yet."""
        super().__init__()
        self.key_room, self.value_room = roomy(like.keys, rows, length), roomy(like.values, rows, length)
        self.is_initialized, self.device = True, self.key_room.device  # a layer's own dtype is gone since 5.24
        self._show(0, like.get_seq_length())

    def append_rows(self, source: DynamicLayer, rows: Tensor) -> None:
        """Copy `rows` of a layer that is filled to the same length behind the rows there are."""
        first, filled = self.keys.shape[0], self.keys.shape[2]
        end = first + len(rows)
        self.key_room[first:end, :, :filled] = source.keys[rows]  # type: ignore[index]
        self.value_room[first:end, :, :filled] = source.values[rows]  # type: ignore[index]
        self._show(end, filled)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the states of new tokens (rows, heads, new, width) behind the filled part."""
        rows, filled = self.keys.shape[0], self.keys.shape[2]
        end = filled + key_states.shape[2]
        self.key_room[:rows, :, filled:end] = key_states
        self.value_room[:rows, :, filled:end] = value_states
        self._show(rows, end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, moved together at the front of the room."""
        rows, filled = len(indices), self.keys.shape[2]
        self.key_room[:rows, :, :filled] = self.keys[indices]
        self.value_room[:rows, :, :filled] = self.values[indices]
        self._show(rows, filled)

    def _show(self, rows: int, filled: int) -> None:
        self.keys, self.values = self.key_room[:rows, :, :filled], self.value_room[:rows, :, :filled]


def roomy(states: Tensor | None, rows: int, length: int) -> Tensor:
    """Room for `rows` rows of `length` tokens, shaped as states (prompts, heads, filled, width)."""
    assert states is not None, "only a filled layer can be expanded"
    _, heads, _, width = states.shape
    return states.new_empty(rows, heads, length, width)


class WaveCache(DynamicCache):
    """The cache of a wave, to which prompts that were prefilled in groups are added."""

    def add(self, prefilled: DynamicCache, rows: Tensor, total_rows: int, length: int) -> None:
        """Give each of `rows` (indices into the group's prompts) its own copy, with room for `length` tokens.

        `total_rows` is how many rows there will be when every group is added; all groups are filled to the same
        length. Layer by layer, so that no more than one layer of the group exists twice; `prefilled` is used up.
        Layers of other kinds, such as sliding windows, bound their length themselves and only gain rows.
        """
        for index in range(len(prefilled.layers)):
            source, prefilled.layers[index] = prefilled.layers[index], DynamicLayer()
            first = index == len(self.layers)
            if type(source) is DynamicLayer:
                if first:
                    self.layers.append(PreallocatedLayer(source, total_rows, length))
                self.layers[index].append_rows(source, rows)  # type: ignore[attr-defined]
            else:
                source.batch_select_indices(rows)  # type: ignore[attr-defined]
                if first:
                    self.layers.append(source)
                else:
                    layer = self.layers[index]
                    layer.keys = torch.cat([layer.keys, source.keys])  # type: ignore[list-item]
                    layer.values = torch.cat([layer.values, source.values])  # type: ignore[list-item]
