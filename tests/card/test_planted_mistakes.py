"""Device mistakes, planted one at a time: each is caught without a card, and here it says by which of three watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.catchers import on_fake_card, on_meta, on_stand_in
from support.tiny_models import save_base
from torch import Tensor

from expo_lite.model import row_batch, token_logprobs
from expo_lite.model.kv_cache import RowLayer
from expo_lite.model.masks import DecodingRows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for CUDA's device guard is for Linux")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("planted") / "base")


def mask_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """The mask of rows of different lengths is made where its numbers are known."""
    real = DecodingRows._additive
    patch.setattr(DecodingRows, "_additive", lambda self, seen: real(self, torch.ones(seen.shape, dtype=torch.bool)))


def generator_of_the_host(patch: pytest.MonkeyPatch) -> None:
    """Tokens are drawn with a generator of the CPU."""

    def choose(logits: Tensor, temperature: float, uniforms: Any) -> tuple[Tensor, Tensor]:
        noise = torch.zeros_like(logits).exponential_(generator=torch.Generator("cpu"))
        return real(logits - noise.log(), temperature, None)

    real = row_batch.choose
    patch.setattr(row_batch, "choose", choose)


def index_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """Which row of the cache belongs to which prompt is a tensor of the CPU: allowed, but the host waits."""
    real = RowLayer.put

    def put(self: RowLayer, source: Any, prompts: Tensor, rows: Tensor) -> None:
        real(self, source, torch.zeros(len(prompts), dtype=torch.long), rows)

    patch.setattr(RowLayer, "put", put)


def look_in_the_loop(patch: pytest.MonkeyPatch) -> None:
    """Every token is asked whether it is sound."""
    real = row_batch.choose

    def choose(*args: Any) -> tuple[Tensor, Tensor]:
        chosen, chosen_logprobs = real(*args)
        chosen_logprobs.isfinite().all().item()
        return chosen, chosen_logprobs

    patch.setattr(row_batch, "choose", choose)


def leak_of_float32(patch: pytest.MonkeyPatch) -> None:
    """The head is applied in float32: right numbers, twice the memory, an eighth of the speed."""

    def log_softmax(hidden: Tensor, weight: Tensor, bias: Any, temperature: Tensor) -> Tensor:
        logits = torch.nn.functional.linear(hidden.float(), weight.float(), bias)
        return torch.log_softmax(logits / temperature[:, None], dim=1)

    patch.setattr(token_logprobs, "_chunk_log_softmax", log_softmax)


def mask_of_float32(patch: pytest.MonkeyPatch) -> None:
    """The mask is of another type than the queries."""
    real = DecodingRows.__init__

    def init(self: DecodingRows, n: int, room: int, config: Any, dtype: torch.dtype, device: torch.device) -> None:
        real(self, n, room, config, torch.float32, device)

    patch.setattr(DecodingRows, "__init__", init)


CAUGHT_BY: dict[Callable[[pytest.MonkeyPatch], None], set[str]] = {
    mask_on_the_host: {"meta", "fake", "stand-in"},
    generator_of_the_host: {"meta", "fake", "stand-in"},
    index_on_the_host: {"meta", "fake", "stand-in"},
    look_in_the_loop: {"meta", "fake", "stand-in"},
    leak_of_float32: {"meta", "fake"},
    mask_of_float32: {"meta", "fake"},
}


def watched(base: Path) -> dict[str, str]:
    """What each watch finds."""
    return {"meta": on_meta(), "fake": on_fake_card(), "stand-in": on_stand_in(base)}


def test_nothing_is_found_where_nothing_is_planted(base: Path) -> None:
    assert watched(base) == {"meta": "", "fake": "", "stand-in": ""}


@pytest.mark.parametrize("mistake", CAUGHT_BY)
def test_a_planted_mistake_is_caught(
    mistake: Callable[[pytest.MonkeyPatch], None], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    found = watched(base)
    print(found)
    assert {name for name, what in found.items() if what} == CAUGHT_BY[mistake], found
