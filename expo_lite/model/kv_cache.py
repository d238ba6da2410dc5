"""A KV cache that is allocated once, at its full length, and whose rows are filled independently of each other.

transformers' dynamic cache concatenates for every token, which copies the cache each time and leaves
fragments of every length behind: on a GPU it can reserve more than twice what it holds.
"""

from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from expo_lite.model.masks import DecodingRows
from expo_lite.model.prefix_tree import PrefixTree


class RowLayer(DynamicLayer):
    """One layer's keys and values (rows, heads, capacity, head width), of which each row is filled from column 0 on.

    All kinds of layers keep whole rows; which columns a sliding window sees is a matter of its mask.
    """

    def __init__(self, rows: DecodingRows, like: DynamicLayer) -> None:
        super().__init__()
        self.rows = rows
        self.key_room, self.value_room = (roomy(states, rows) for states in (like.keys, like.values))
        self.is_initialized, self.device = True, self.key_room.device  # a layer's own dtype is gone since 5.24

    def put(self, source: DynamicLayer, prompts: Tensor, rows: Tensor, tree: PrefixTree | None) -> None:
        """Let `rows` begin as copies of `prompts` of a filled layer, which may hold the tokens of a tree of them."""
        for room, states in ((self.key_room, source.keys), (self.value_room, source.values)):
            begun = states_of(states, prompts, tree)
            filled = begun.shape[2]
            room[rows, :, :filled] = begun
            room[rows, :, filled:] = 0  # what was written behind an end can be no number

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the states of one token a row (rows, heads, 1, width) where each row ends; returns the span."""
        for room, states in ((self.key_room, key_states), (self.value_room, value_states)):
            count, heads, _, width = states.shape  # keys and values can have different ones
            room.view(-1, width).index_copy_(0, self.rows.cells(heads), states.reshape(-1, width))
        return self.key_room[:count, :, : self.rows.span], self.value_room[:count, :, : self.rows.span]

    def keep(self, indices: Tensor) -> None:
        """Keep these rows, moved together at the front."""
        for room in (self.key_room, self.value_room):
            room[: len(indices), :, : self.rows.span] = room[indices, :, : self.rows.span]
            room[: len(indices), :, self.rows.span :] = 0  # a longer row has ended there, and goes on beyond its end

    def get_seq_length(self) -> int:
        """Columns before the next token's, in the longest row."""
        return self.rows.span - 1


def states_of(states: Tensor | None, prompts: Tensor, tree: PrefixTree | None) -> Tensor:
    """Keys or values (R, heads, T, width) of `prompts` (R,), of rows or of a tree's tokens (1, heads, M, width)."""
    assert states is not None, "only a filled layer can be copied"
    return states[prompts] if tree is None else states[0][:, tree.rows[prompts]].transpose(0, 1)


def roomy(states: Tensor | None, rows: DecodingRows) -> Tensor:
    """Room for all rows, shaped as states (prompts, heads, filled, width).

    Zeros: attention multiplies what it does not see by 0, and what lies about in memory may be no number.
    """
    assert states is not None, "only a filled layer can be copied"
    _, heads, _, width = states.shape
    return states.new_zeros(len(rows.lengths), heads, rows.capacity, width)


class RowCache(DynamicCache):
    """The cache of all rows, into which prompts are copied that were run in groups."""

    def __init__(self, rows: DecodingRows) -> None:
        super().__init__()
        self.rows = rows

    def put(self, prefilled: DynamicCache, prompts: Tensor, rows: Tensor, tree: PrefixTree | None = None) -> None:
        """Let `rows` begin with `prompts` of a group that was run, perhaps as a tree; `prefilled` is used up.

        Layer by layer, so that no more than one layer of the group exists twice.
        """
        for index in range(len(prefilled.layers)):
            source, prefilled.layers[index] = prefilled.layers[index], DynamicLayer()
            if index == len(self.layers):
                self.layers.append(RowLayer(self.rows, source))  # type: ignore[arg-type]
            self.layers[index].put(source, prompts, rows, tree)  # type: ignore[attr-defined]

    def keep(self, indices: Tensor) -> None:
        """Keep these rows, moved together at the front."""
        for layer in self.layers:
            layer.keep(indices)  # type: ignore[attr-defined]
