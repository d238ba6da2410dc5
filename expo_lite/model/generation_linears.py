"""What stands for the LoRA layers while generating: the same function, with less around it.

PEFT's own layer is made for training: it copies its input and output and changes their types, around nine operations
for each adapted matrix. In a decode step on a GPU these are half of all that the host has to start.

* light: the adapter's matrices in the type of the base, its scale in one of them; a product and a sum.
* dense: base and adapter merged into one float32 matrix, once per call of the sampler. For small models on a CPU, 3 to
  4 times faster: a 4-bit layer dequantises its weight on every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from peft.tuners.lora import LoraLayer
from torch import Tensor

MakeLinear = Callable[[LoraLayer], torch.nn.Module]


@contextmanager
def replaced_linears(model: torch.nn.Module, make: MakeLinear) -> Iterator[None]:
    """Within it every LoRA linear of `model` is what `make` makes of it; the layers themselves are untouched.

    Follows the adapter's state on entry: off (reference), it is the base alone.
    """
    replaced: list[tuple[torch.nn.Module, str, torch.nn.Module]] = []
    try:
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, LoraLayer) and isinstance(child.get_base_layer(), torch.nn.Linear):
                    replaced.append((parent, name, child))
                    setattr(parent, name, make(child))
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def matrices(layer: LoraLayer) -> tuple[Tensor, Tensor] | None:
    """A (rank, in) and (alpha / rank) B (out, rank) in float32, of all adapters that are on; None if none is."""
    names = [] if layer.disable_adapters else layer.active_adapters
    if not names:
        return None
    lora_a: Any = layer.lora_A
    lora_b: Any = layer.lora_B
    a = torch.cat([lora_a[name].weight.detach().float() for name in names])
    return a, torch.cat([layer.scaling[name] * lora_b[name].weight.detach().float() for name in names], dim=1)


class LightLora(torch.nn.Module):
    """x -> W x + B (A x) over the base's own layer, which may be in 4 bit; for what is not trained."""

    def __init__(self, base: torch.nn.Module, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.base = base
        self.a, self.b = a.t(), b.t()  # (in, rank), (rank, out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        out = self.base(x)
        low = x.to(self.a.dtype).flatten(0, -2) @ self.a
        out.view(-1, out.shape[-1]).addmm_(low, self.b)  # a linear layer's output is nobody else's
        return out


def light_copy(layer: LoraLayer, dtype: torch.dtype) -> torch.nn.Module:
    """The layer with its adapter in `dtype`, the model's own; the base's layer where no adapter is on."""
    base: Any = layer.get_base_layer()
    found = matrices(layer)
    return base if found is None else LightLora(base, found[0].to(dtype), found[1].to(dtype))


def dense_copy(layer: LoraLayer) -> torch.nn.Linear:
    """W + (alpha / rank) B A of one layer, in float32."""
    base: Any = layer.get_base_layer()
    weight, found = dequantised(base), matrices(layer)
    if found is not None:
        weight = weight + found[1] @ found[0]
    copy = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    copy.weight = torch.nn.Parameter(weight, requires_grad=False)
    if base.bias is not None:
        copy.bias = torch.nn.Parameter(base.bias.detach().float(), requires_grad=False)
    return copy


def dequantised(layer: Any) -> Tensor:
    """The layer's weight (out, in) in float32."""
    if isinstance(layer, Linear4bit):
        quant_state: Any = layer.weight.quant_state  # type: ignore[attr-defined]
        return dequantize_4bit(layer.weight.data, quant_state).float()
    return layer.weight.detach().float()
