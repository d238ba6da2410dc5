"""Sequences that begin alike, as a tree of tokens: what several of them share is computed once.

A causal model knows of a token only what stands before it. So the rollouts of a problem, and the explanations trained
under its prompt, have the same hidden states up to where they part: one token of the tree stands for all. Linear
layers and norms see each token of the tree once, and no padding. Attention alone looks at whole sequences: there
queries, keys and values are put together again, row by row, and a kernel for causal attention without a mask does
as in a plain pass. Prompts that begin alike are run so too, before sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

Attention = Callable[..., tuple[Tensor, None]]

PAYS = 0.85
"""A tree is used where it has at most this share of the padded rows' tokens; training takes no more memory then."""


@dataclass(frozen=True)
class PrefixTree:
    """M tokens, each prefix of B sequences once, on the model's device."""

    tokens: Tensor  # (1, M)
    depths: Tensor  # (1, M) how many tokens stand before each: its position in a sequence
    rows: Tensor  # (B, T) the sequences, right-padded, as indices of the tree's tokens
    places: Tensor  # (M,) where each token of the tree stands first in the flattened (B T) grid

    @property
    def model_inputs(self) -> dict[str, Any]:
        """What a decoder is given; it passes `prefix_tree` on to attention."""
        return {"input_ids": self.tokens, "position_ids": self.depths, "prefix_tree": self}

    def attention_of_rows(
        self, attention: Attention, module: torch.nn.Module, states: Sequence[Tensor], **settings: Any
    ) -> tuple[Tensor, None]:
        """Causal attention of each row, given queries, keys and values (1, heads, M, width) of the tree's tokens.

        Returns (1, M, heads, width).
        """
        out, _ = attention(module, *(self.in_rows(one[0]) for one in states), None, **settings)
        return out.flatten(0, 1).index_select(0, self.places)[None], None

    def in_rows(self, states: Tensor) -> Tensor:
        """(heads, M, width) -> (B, heads, T, width). By `embedding`, whose backward adds copies up without atomics."""
        by_token = states.transpose(0, 1)
        return embedding(self.rows, by_token.flatten(1)).unflatten(2, by_token.shape[1:]).transpose(1, 2)


class Nodes:
    """The same as lists on the host: each node's token, depth and first place, and each sequence as a path of nodes."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.places: list[int] = []
        self.paths: list[list[int]] = []
        self.width = max(map(len, sequences))
        found: dict[tuple[int, int], int] = {}
        for row, sequence in enumerate(sequences):
            node, path = -1, list[int]()
            for depth, token in enumerate(sequence):
                node = found.setdefault((node, token), len(self.tokens))
                if node == len(self.tokens):
                    self.tokens.append(token)
                    self.depths.append(depth)
                    self.places.append(row * self.width + depth)
                path.append(node)
            self.paths.append(path)

    def on(self, device: torch.device) -> PrefixTree:
        """The tree on a device. Rows are filled up with any of its tokens: nothing looks at what comes after."""
        rows = [path + [0] * (self.width - len(path)) for path in self.paths]
        tensors = (torch.tensor(values, device=device) for values in ([self.tokens], [self.depths], rows, self.places))
        return PrefixTree(*tensors)


def laid_out(
    sequences: Sequence[Sequence[int]], pad_id: int, device: torch.device, trees: bool, unread: int = 0
) -> tuple[Tensor | PrefixTree, list[list[int]]]:
    """What a model is given of B sequences: a tree if `trees` are taken and it pays, else right-padded ids (B, T).

    With it where each sequence's tokens stand among the flattened inputs, but for the last `unread` ones of each: a
    tree does without those.
    """
    width = max(map(len, sequences))
    read = [sequence[: len(sequence) - unread] for sequence in sequences]
    if trees:
        tree = Nodes(read)
        if len(tree.tokens) <= PAYS * len(sequences) * width:
            return tree.on(device), tree.paths
    padded = [[*sequence, *[pad_id] * (width - len(sequence))] for sequence in sequences]
    places = [list(range(row * width, row * width + len(own))) for row, own in enumerate(read)]
    return torch.tensor(padded, device=device), places


def on_trees(attention: Attention) -> Attention:
    """`attention`, an implementation for transformers, that also takes the states of a tree's tokens."""

    @wraps(attention)
    def with_trees(
        module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, *masked: Any, **settings: Any
    ) -> tuple[Tensor, None]:
        tree: PrefixTree | None = settings.pop("prefix_tree", None)
        if tree is None:
            return attention(module, query, key, value, *masked, **settings)
        return tree.attention_of_rows(attention, module, (query, key, value), **settings)

    return with_trees
