"""Watching every operator that torch runs: where the host would wait for the device, and in which types it computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from support.card import replaced

SEEN_BY_THE_HOST = {  # operators whose result, or its shape, depends on values
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique", "_unique2",
    "unique_consecutive", "repeat_interleave", "bincount", "allclose",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "linear", "gemm_4bit", "gemv_4bit"}


class Product(NamedTuple):
    """A product of matrices: what type it is computed in, and its sizes, (rows, inner) times (inner, columns)."""

    dtype: torch.dtype
    rows: int
    inner: int
    columns: int


class Operators(TorchDispatchMode):
    """Within it, `waits` counts operators for which the host would wait, `types` the (operator, type) of all results.

    Tensors of the computer itself, such as an optimizer's count of steps, make nobody wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.types: Counter[tuple[str, torch.dtype]] = Counter()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.partition("::")[2]
        if self.on_device(args, kwargs) and self.waits_for(name, args, kwargs):
            self.waits[name] += 1
        self.require_own_generator(args, kwargs)
        result = function(*args, **kwargs)
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor):
                self.types[name, tensor.dtype] += 1
                if name in PRODUCTS:
                    first = args[1] if name in ("addmm", "baddbmm") else args[0]
                    rows, columns = tensor.shape[:-1].numel(), tensor.shape[-1]
                    self.products[Product(tensor.dtype, rows, first.shape[-1], columns)] += 1
        return result

    @staticmethod
    def on_device(args: Any, kwargs: Any) -> bool:
        """Whether an operator has to do with the device at all."""
        return any(isinstance(leaf, Tensor) and leaf.device.type != "cpu" for leaf in tree_flatten((args, kwargs))[0])

    @staticmethod
    def require_own_generator(args: Any, kwargs: Any) -> None:
        """Raises RuntimeError, as a card's kernels do, where random numbers come from another device's generator."""
        leaves = tree_flatten((args, kwargs))[0]
        generators = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Generator)}
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)}
        wanted = kwargs.get("device")
        devices |= {torch.device(wanted).type} if wanted is not None else set()
        if generators and devices and generators != devices:
            raise RuntimeError(f"Expected a '{devices}' device type for generator but found '{generators}'")

    @staticmethod
    def waits_for(name: str, args: Any, kwargs: Any) -> bool:
        """Whether the host wants to see values: itself, by a copy, by a mask as an index, or by an index of its own."""
        to_host = name == "_to_copy" and torch.device(kwargs.get("device") or "meta").type == "cpu"
        to_host = to_host or (name == "copy_" and args[0].device.type == "cpu")
        indices = [index for index in args[1] if index is not None] if name in INDEXING else []
        by_mask = any(index.dtype == torch.bool for index in indices)
        by_host = any(index.device.type == "cpu" for index in indices)
        return name in SEEN_BY_THE_HOST or to_host or by_mask or by_host

    def leaks(self, dtype: torch.dtype, rank: int) -> set[Product]:
        """Products that are computed in another type than the model's: LoRA's may, and the angles of rotations."""
        return {p for p in self.products if p.dtype != dtype and rank not in p[1:] and p.inner != 1}


@contextmanager
def attention_as_one_operator() -> Iterator[Counter[tuple[torch.dtype, ...]]]:
    """Within it attention is the memory-efficient kernel's operator, as on a card; counts the types it was given.

    Else, on tensors without numbers, it is written out, in float32.
    """
    given: Counter[tuple[torch.dtype, ...]] = Counter()

    def attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        given[tuple(t.dtype for t in (query, key, value, attn_mask) if t is not None)] += 1
        shared = query.shape[1] // key.shape[1] if enable_gqa else 1
        key, value = (t.repeat_interleave(shared, dim=1) if shared > 1 else t for t in (key, value))
        mask = None if attn_mask is None else attn_mask.expand(*query.shape[:3], key.shape[2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, mask, True, dropout_p, is_causal, scale=scale
        )[0]

    with replaced(torch.nn.functional, "scaled_dot_product_attention", attention):
        yield given


class Read:
    """Stands for reading device values where there are none; `shapes` lists what was read.

    Everything is sound, nothing has finished, and every number is 0. Made with numpy: torch would run operators.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, tensor: Tensor) -> Any:
        self.shapes.append(tuple(tensor.shape))
        if tensor.dtype == torch.bool:
            return np.full(tensor.shape, tensor.dim() == 0).tolist()
        return np.zeros(tensor.shape, dtype=float if tensor.is_floating_point() else int).tolist()
