"""Tensors on "cuda:0" without numbers: torch's fake tensors, which refuse to mix devices.

A CPU build of torch lacks CUDA's device guard, without which not even an index can be taken; there, meta's stands in,
which does nothing. It lacks an accelerator as well, so there is no backward pass (see `meta_models` for one).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from expo_lite.model.policy import Policy

CUDA, META = 1, 14  # c10/core/DeviceType.h: the numbers of two device types, as in torch 2.13
CARD = torch.device("cuda", 0)


@contextmanager
def device_guard() -> Iterator[None]:
    """Within it, C++ finds a guard for CUDA."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * (META + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    missing = not guards[CUDA]
    if missing:
        guards[CUDA] = guards[META]
    try:
        yield
    finally:
        if missing:
            guards[CUDA] = None


@contextmanager
def fake_card() -> Iterator[None]:
    """Within it, tensors are fake, and may be on "cuda:0"."""
    with device_guard(), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def moved(policy: Policy) -> Policy:
    """A policy on meta, moved to the fake card."""
    for module in policy.model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(on_card(parameter), requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else on_card(buffer)
        for name, value in list(vars(module).items()):
            if isinstance(value, torch.Tensor):  # rotary embeddings keep their frequencies so
                setattr(module, name, on_card(value))
    policy.device = CARD
    return policy


def on_card(tensor: torch.Tensor) -> torch.Tensor:
    """One like it there."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=CARD)
