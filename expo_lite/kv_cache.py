"""A KV cache that is allocated once per wave, at its full length.

transformers' dynamic cache concatenates for every token, which copies the cache each time and leaves
fragments of every length behind: on a GPU it can reserve more than twice what it holds.
"""

from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values (rows, heads, length, head width); `keys` and `values` show what is filled."""

    keys: Tensor  # type: ignore[assignment]
    values: Tensor  # type: ignore[assignment]

    def __init__(self, source: DynamicLayer, rows: Tensor, length: int) -> None:
        """Copy `rows` of a filled layer and leave room for `length` tokens in all."""
        super().__init__()
        self.is_initialized = True
        self.dtype, self.device = source.dtype, source.device
        filled = source.get_seq_length()
        self.key_room, self.value_room = roomy(source.keys, rows, length), roomy(source.values, rows, length)
        self._show(len(rows), filled)

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


def roomy(states: Tensor | None, rows: Tensor, length: int) -> Tensor:
    """`rows` of states (prompts, heads, filled, width), with room for `length` tokens."""
    assert states is not None, "only a filled layer can be expanded"
    _, heads, filled, width = states.shape
    room = states.new_empty(len(rows), heads, length, width)
    room[:, :, :filled] = states[rows]
    return room


def expand_cache(cache: DynamicCache, rows: Tensor, length: int) -> None:
    """Give each of `rows` (indices into the prefilled prompts) its own copy with room for `length` tokens.

    Layer by layer, so that no more than one layer exists twice. Layers of other kinds, such as sliding
    windows, bound their length themselves and are only expanded.
    """
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[index] = PreallocatedLayer(layer, rows, length)
        else:
            layer.batch_select_indices(rows)  # type: ignore[attr-defined]
