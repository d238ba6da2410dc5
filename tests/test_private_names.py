"""Names of libraries that are not public, each used in one file: where a library moves on, this says which name broke.

Those whose behaviour matters have tests of their own beside them: adapters by row in tests/model/test_policy.py, the
masks in tests/model/test_masks.py, bitsandbytes' rule in tests/memory/test_fused.py.
"""

from __future__ import annotations

import argparse
import importlib
import inspect

import pytest

USED = {
    # module, name, parameters that we give it: the file that uses it, the version it was seen in
    ("peft.tuners.lora.model", "LoraModel._enable_peft_forward_hooks", ("kwargs",)): "model/policy.py, peft 0.21",
    ("transformers.masking_utils", "find_packed_sequence_indices", ("position_ids",)): "model/masks.py, 5.17",
    ("transformers.masking_utils", "sdpa_mask", ()): "model/grouped_attention.py, 5.17",
    ("transformers.integrations.sdpa_attention", "repeat_kv", ("hidden_states", "n_rep")): "grouped_attention.py, 5.17",
    ("transformers.integrations.sdpa_attention", "sdpa_attention_forward", ()): "grouped_attention.py, 5.17",
    ("transformers.cache_utils", "DynamicLayer", ()): "model/kv_cache.py, 5.17",
    ("transformers.configuration_utils", "PreTrainedConfig._attn_implementation", ()): "masks, attention, 5.17",
    ("transformers.modeling_gguf_pytorch_utils", "tqdm", ()): "model/smollm2.py, 5.17",
    (
        "transformers.modeling_gguf_pytorch_utils",
        "load_gguf_checkpoint",
        ("return_tensors", "model_to_load", "torch_dtype"),
    ): "model/smollm2.py, 5.17",
    ("huggingface_hub.constants", "HF_HUB_OFFLINE", ()): "config/hub.py, huggingface_hub 1",
}


@pytest.mark.parametrize(("module", "name", "parameters"), USED, ids=lambda part: str(part))
def test_it_is_where_it_was(module: str, name: str, parameters: tuple[str, ...]) -> None:
    found = importlib.import_module(module)
    where = f"{module}.{name}, used in {USED[module, name, parameters]}, has moved"
    for part in name.split("."):
        assert hasattr(found, part), where
        found = getattr(found, part)
    if parameters:
        assert set(parameters) <= set(inspect.signature(found).parameters), where


def test_argparse_lists_its_actions() -> None:
    """config/flags.py, Python 3.10 to 3.14."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one")
    assert [action.dest for action in parser._actions] == ["help", "one"]


def test_gradio_has_its_queue_and_the_data_of_an_event() -> None:
    """app/page.py and app/runs/samples.py, gradio 6.31."""
    gradio = pytest.importorskip("gradio")
    with gradio.Blocks() as page:
        page.queue()
    assert hasattr(page._queue, "sleep_when_free")
    assert gradio.EventData(None, {"row": 2})._data == {"row": 2}
