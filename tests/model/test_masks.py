"""Own masks and positions: the logits of transformers' own builder, without a look at any value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.meta_models import FAMILIES, causal_lm
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, masking_utils

from expo_lite.model.kv_cache import WaveCache
from expo_lite.model.masks import ALIGNED, FULL, SLIDING, LeftPadded, layer_kinds, one_sequence_per_row

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


@torch.no_grad()
def ours(model: PreTrainedModel, prompts: list[list[int]], asked: list[Any]) -> list[Tensor]:
    """The same with LeftPadded and the wave's cache; from the fourth token on for KEPT rows only."""
    ids, pads = padded(prompts)
    width, room = ids.shape[1], ids.shape[1] + len(FOLLOWING)
    rows = LeftPadded(pads, room, model.config, model.dtype, model.device)
    prefilled, cache = DynamicCache(config=model.config), WaveCache()

    def forward(ids: Tensor, given: tuple[Any, Tensor], cache: DynamicCache) -> Tensor:
        asked.append(given[0])
        return model(input_ids=ids, attention_mask=given[0], position_ids=given[1], past_key_values=cache).logits[:, -1]

    logits = [forward(ids, rows.prompt(width), prefilled)]
    cache.add(prefilled, torch.arange(len(prompts)), len(prompts), room)
    kept = torch.arange(len(prompts))
    for step, tokens in enumerate(FOLLOWING):
        if step == 3:
            kept = torch.tensor(KEPT)
            rows.keep(KEPT, kept)
            cache.batch_select_indices(kept)
        logits.append(forward(torch.tensor(tokens)[kept][:, None], rows.token(width + step + 1), cache))
    return logits


@pytest.mark.parametrize("prompts", [PADDED, ALIKE], ids=["padded", "alike"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers_own_masks(family: str, prompts: list[list[int]]) -> None:
    model = causal_lm(family)
    masks: list[Any] = []
    for step, (own, other) in enumerate(zip(ours(model, prompts, masks), theirs(model, prompts), strict=True)):
        torch.testing.assert_close(own, other[KEPT] if step > 3 else other, atol=2e-5, rtol=1e-5)
    if prompts is ALIKE:
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
            assert one.isfinite().all()  # a row of padding alone gives numbers, whatever the kernel


def test_masks_while_decoding_are_views_of_one() -> None:
    config = causal_lm("llama").config
    rows = LeftPadded([2, 0], 16, config, torch.float16, torch.device("cpu"))
    first, second = rows.token(9)[0], rows.token(10)[0]
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    assert first.data_ptr() == second.data_ptr()
    assert first.shape == (2, 1, 1, 9) and first.dtype == torch.float16
    assert (first[:, 0, 0] < 0).tolist() == [[True] * 2 + [False] * 7, [False] * 9]


def test_no_mask_once_the_padded_rows_have_left() -> None:
    rows = LeftPadded([2, 0], 16, causal_lm("llama").config, torch.float32, torch.device("cpu"))
    rows.keep([1], torch.tensor([1]))
    mask, positions = rows.token(9)
    assert mask is None
    assert positions.tolist() == [[8]]


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
def test_other_layers_and_attentions_get_what_transformers_makes_masks_from(other: dict[str, Any]) -> None:
    config = causal_lm("llama").config
    for name, value in other.items():
        setattr(config, name, value)
    rows = LeftPadded([2, 0], 16, config, torch.float32, torch.device("cpu"))
    mask, positions = rows.prompt(4)
    assert isinstance(mask, Tensor)
    assert mask.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert positions.tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]
    mask, positions = rows.token(5)
    assert isinstance(mask, Tensor)
    assert mask.tolist() == [[0, 0, 1, 1, 1], [1] * 5]
    assert positions.tolist() == [[2], [4]]


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
