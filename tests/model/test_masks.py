"""Own masks and positions: the logits of transformers' own builder, without a look at any value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.meta_models import FAMILIES, causal_lm
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, masking_utils

from expo_lite.core.errors import ConfigError
from expo_lite.model.kv_cache import RowCache
from expo_lite.model.masks import ALIGNED, FULL, SLIDING, DecodingRows, layer_kinds, one_sequence_per_row

PADDED = [[3, 7, 9, 12, 4, 8, 20, 11, 6], [3, 5, 4], [3, 5, 11, 6, 8, 20, 4]]  # a window of 6 is crossed by two rows
ALIKE = [row[:3] for row in PADDED]
FOLLOWING = [[5, 9, 13], [6, 10, 14], [7, 11, 15], [8, 12, 16], [4, 4, 5], [9, 8, 7]]  # tokens, by step and row
KEPT = [2, 1]  # rows that go on after three of them


def padded(prompts: list[list[int]]) -> tuple[Tensor, list[int]]:
    """Token ids (B, T) and how many columns of each row are padding."""
    width = max(map(len, prompts))
    pads = [width - len(prompt) for prompt in prompts]
    return torch.tensor([[0] * pad + prompt for pad, prompt in zip(pads, prompts, strict=True)]), pads


@torch.no_grad()
def theirs(model: PreTrainedModel, prompts: list[list[int]]) -> list[Tensor]:
    """Logits (B, V) after the prompt and after each token, with transformers' own masks of whole rows."""
    ids, pads = padded(prompts)
    mask = (torch.arange(ids.shape[1]) >= torch.tensor(pads)[:, None]).long()
    cache, logits = DynamicCache(config=model.config), []
    for step in range(len(FOLLOWING) + 1):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
        logits.append(output.logits[:, -1])
        ids = torch.tensor(FOLLOWING[min(step, len(FOLLOWING) - 1)])[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return logits


def rows_of(prompts: list[list[int]], room: int, config: Any, dtype: torch.dtype = torch.float32) -> DecodingRows:
    """Rows that begin with these prompts."""
    rows = DecodingRows(len(prompts), room, config, dtype, torch.device("cpu"))
    rows.put(range(len(prompts)), torch.arange(len(prompts)), [len(prompt) for prompt in prompts])
    return rows


@torch.no_grad()
def ours(model: PreTrainedModel, prompts: list[list[int]], asked: list[Any]) -> list[Tensor]:
    """The same with DecodingRows and their cache; from the fourth token on for KEPT rows only."""
    rows = rows_of(prompts, max(map(len, prompts)) + len(FOLLOWING), model.config)
    cache, prefilled, width = RowCache(rows), DynamicCache(), max(map(len, prompts))
    ids = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in prompts])
    ends = torch.tensor([len(prompt) - 1 for prompt in prompts])
    every = torch.arange(len(prompts))
    first = model(input_ids=ids, position_ids=torch.arange(width).expand(ids.shape), past_key_values=prefilled)
    logits = [first.logits[every, ends]]
    cache.put(prefilled, every, every)
    kept = every
    for step, tokens in enumerate(FOLLOWING):
        if step == 3:
            kept = torch.tensor(KEPT)
            cache.keep(kept)
            rows.keep(KEPT, kept)
        mask, positions = rows.token()
        asked.append(mask)
        output = model(
            input_ids=torch.tensor(tokens)[kept][:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
        )
        logits.append(output.logits[:, -1])
        rows.written()
    return logits


@pytest.mark.parametrize("prompts", [PADDED, ALIKE], ids=["padded", "alike"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_own_masks(family: str, prompts: list[list[int]]) -> None:
    model = causal_lm(family)
    masks: list[Any] = []
    for step, (own, other) in enumerate(zip(ours(model, prompts, masks), theirs(model, prompts), strict=True)):
        torch.testing.assert_close(own, other[KEPT] if step > 3 else other, atol=2e-5, rtol=1e-5)
    if prompts is ALIKE and layer_kinds(model.config)[1] is None:
        assert masks == [None] * len(masks)  # attention takes its fastest kernel


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_mask_begin_at_aligned_places(family: str) -> None:
    """Else the memory-efficient kernel copies the mask, or refuses it."""
    masks: list[Any] = []
    ours(causal_lm(family), PADDED, masks)
    for mask in masks:
        for one in mask.values() if isinstance(mask, dict) else [mask]:
            assert one.dtype == torch.float32
            assert one.stride(-1) == 1
            assert all(stride % ALIGNED == 0 for stride in one.stride()[:-1])
            assert one.isfinite().all()


def test_a_row_sees_its_own_columns_whatever_other_rows_hold() -> None:
    rows = rows_of([[3] * 6, [3] * 4], 16, causal_lm("llama").config, torch.float16)
    mask, positions = rows.token()
    assert isinstance(mask, Tensor)
    assert mask.shape == (2, 1, 1, 7) and mask.dtype == torch.float16 and positions.tolist() == [[6], [4]]
    assert (mask[:, 0, 0] < 0).tolist() == [[False] * 7, [False] * 5 + [True] * 2]


def test_a_window_goes_along_with_each_row() -> None:
    rows = rows_of([[3] * 9, [3] * 7], 16, causal_lm("mistral").config)  # a window of 6, this token among them
    mask, _ = rows.token()
    assert isinstance(mask, Tensor)
    assert [(row == 0).nonzero().flatten().tolist() for row in mask[:, 0, 0]] == [
        [4, 5, 6, 7, 8, 9],
        [2, 3, 4, 5, 6, 7],
    ]


def test_no_mask_once_the_other_rows_have_left() -> None:
    rows = rows_of([[3] * 6, [3] * 8], 16, causal_lm("llama").config)
    rows.keep([1], torch.tensor([1]))
    mask, positions = rows.token()
    assert mask is None
    assert positions.tolist() == [[8]]


def test_rows_that_have_ended_do_not_lengthen_the_others() -> None:
    rows = rows_of([[3] * 6, [3] * 8], 9, causal_lm("llama").config)
    rows.running = [0]
    assert rows.idle == [1] and rows.token()[1].tolist() == [[6], [8]] and rows.span == 7
    for _ in range(3):
        rows.written()
    assert rows.filled.tolist() == [8, 8] and rows.lengths == [8, 8]  # within their room


def test_keys_and_values_of_different_shapes() -> None:
    """As DeepSeek's latent attention caches them; and layers with another number of heads."""
    rows = rows_of([[3] * 4, [3] * 2], 8, causal_lm("llama").config)
    cache, prefilled = RowCache(rows), DynamicCache()
    states = [(torch.randn(2, heads, 4, 12), torch.randn(2, heads, 4, 6)) for heads in (2, 4)]
    for layer, (keys, values) in enumerate(states):
        prefilled.update(keys, values, layer)
    cache.put(prefilled, torch.arange(2), torch.arange(2))
    rows.token()
    for layer, (keys, values) in enumerate(states):
        new_keys, new_values = torch.randn_like(keys[:, :, :1]), torch.randn_like(values[:, :, :1])
        filled = cache.update(new_keys, new_values, layer)
        for whole, begun, new in zip(filled, (keys, values), (new_keys, new_values), strict=True):
            assert torch.equal(whole[0], torch.cat([begun[0], new[0]], dim=1))
            assert torch.equal(whole[1, :, :3], torch.cat([begun[1, :, :2], new[1]], dim=1))


def test_nothing_of_what_was_written_before_is_left_where_a_row_begins_anew() -> None:
    """Masked columns are multiplied by 0, and what stood behind an end may be no number."""
    rows = rows_of([[3] * 4], 8, causal_lm("llama").config)
    cache = RowCache(rows)
    for value in (float("nan"), 1.0):
        prefilled = DynamicCache()
        prefilled.update(
            torch.full((1, 2, 4 if value != 1 else 2, 8), value), torch.ones(1, 2, 4 if value != 1 else 2, 8), 0
        )
        cache.put(prefilled, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    assert cache.layers[0].key_room.isfinite().all()  # type: ignore[attr-defined]


def test_nothing_of_a_row_that_has_ended_is_left_where_a_shorter_one_moves() -> None:
    rows = rows_of([[3] * 6, [3] * 2], 8, causal_lm("llama").config)
    cache, prefilled = RowCache(rows), DynamicCache()
    keys = torch.ones(2, 2, 6, 8)
    keys[0, :, 4:] = float("nan")
    prefilled.update(keys, torch.ones_like(keys), 0)
    cache.put(prefilled, torch.arange(2), torch.arange(2))
    rows.running = [1]
    rows.token()
    cache.keep(torch.tensor([1]))
    assert cache.layers[0].key_room[:1].isfinite().all()  # type: ignore[attr-defined]


def test_kinds_of_layers() -> None:
    kinds = {family: layer_kinds(causal_lm(family).config) for family in FAMILIES}
    assert kinds == {
        "qwen2": ({FULL}, None),
        "qwen3": ({FULL}, None),
        "llama": ({FULL}, None),
        "gemma3": ({FULL, SLIDING}, 6),
        "mistral": ({SLIDING}, 6),
    }


@pytest.mark.parametrize(
    "other", [{"layer_types": ["chunked_attention", FULL]}, {"_attn_implementation": "flex_attention"}]
)
def test_other_layers_and_attentions_are_refused(other: dict[str, Any]) -> None:
    config = causal_lm("llama").config
    for name, value in other.items():
        setattr(config, name, value)
    with pytest.raises(ConfigError, match=r"^policy\.model: its attention \(.*(chunked_attention|flex_attention)"):
        DecodingRows(1, 16, config, torch.float32, torch.device("cpu"))


def test_transformers_looks_for_packed_sequences_where_it_did_in_5_17() -> None:
    """`one_sequence_per_row` replaces a function that is not public: here a newer transformers shows that it moved."""
    looked: list[torch.Size] = []
    look = masking_utils.find_packed_sequence_indices
    decoder = causal_lm("qwen2").get_decoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            masking_utils,
            "find_packed_sequence_indices",
            lambda ids: looked.append(ids.shape) or look(position_ids=ids),
        )
        decoder(input_ids=torch.tensor([[3, 7, 9]]), use_cache=False)
        assert looked == [(1, 3)]
        with one_sequence_per_row():
            decoder(input_ids=torch.tensor([[3, 7, 9]]), use_cache=False)
        assert looked == [(1, 3)]
    assert masking_utils.find_packed_sequence_indices is look
