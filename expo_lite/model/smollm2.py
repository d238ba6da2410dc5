"""SmolLM2-135M-Instruct as files that transformers loads, made once: fetched, checked, converted, cached."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, modeling_gguf_pytorch_utils
from transformers.utils.import_utils import is_gguf_available

from expo_lite.config.model_files import SMOL, model_source
from expo_lite.core.errors import first_line
from expo_lite.core.locks import held, is_held
from expo_lite.core.progress import OnProgress, PhaseProgress, silent
from expo_lite.memory.shapes import KNOWN
from expo_lite.model.base import no_bars_for
from expo_lite.model.smollm2_package import gguf_file, refused

NEEDED_BYTES = 500_000_000
"""For the package, the file in it and the converted model, side by side."""
WEIGHTS = "model.safetensors"
FILES = (WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""What loading needs: without its template the model would be asked as one that has none."""
START, END, UNKNOWN = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL = 3
"""A token's kind in GGUF."""
INSTALL = 'pip install "expo-lite[smol]"'
PARTIAL, LOCK = ".partial-", ".lock"
"""How the name of a folder in the making begins, and the file in it whose lock tells that it is in the making."""


def is_prepared(model: str) -> bool:
    """Whether a model needs no preparing: it is another one, or its files are there.

    Raises ConfigError where they are no longer whole.
    """
    if model != SMOL:
        return True
    folder = Path(model_source(SMOL))
    if not folder.is_dir():
        return False
    if amiss := damage_of(folder):
        raise refused(f"{amiss}; delete the folder {folder}, and its files are made again")
    return True


def damage_of(folder: Path) -> str:
    """What has become of a folder that was whole when it got its name; empty where it still is."""
    if gone := [name for name in FILES if not (folder / name).is_file()]:
        return f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} gone"
    try:
        with safe_open(folder / WEIGHTS, "pt"):  # it compares the header with the file's length
            return ""
    except (OSError, SafetensorError) as error:
        return f"{WEIGHTS} is damaged ({first_line(error)})"


def prepare(model: str, on_progress: OnProgress = silent) -> None:
    """Make the files of `model` where `model_source` expects them, if it is this one and they are not there yet.

    They come into being elsewhere and are renamed: what is there is whole, also where two processes do it at once.
    Raises ConfigError where a package, the network, or space on the disk is missing, and as `is_prepared`.
    """
    if is_prepared(model):
        return
    if not is_gguf_available():  # or too old
        raise refused(f"its weights are read by the package gguf: {INSTALL}")
    folder = Path(model_source(model))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent)
        if (free := shutil.disk_usage(folder.parent).free) < NEEDED_BYTES:
            raise refused(
                f"{folder.parent} has {free / 1e6:.0f} MB free, and its files take {NEEDED_BYTES / 1e6:.0f} MB while "
                "they are made; make room, or set XDG_CACHE_HOME to another place"
            )
        with TemporaryDirectory(prefix=PARTIAL, dir=folder.parent) as name, held(Path(name) / LOCK):
            work = Path(name)
            convert(gguf_file(work, on_progress), work / "model", on_progress)
            put(work / "model", folder)
    except ImportError as error:
        raise refused(f"its weights cannot be read by the package gguf ({first_line(error)}): {INSTALL}") from None
    except (OSError, SafetensorError) as error:
        raise refused(
            f"its files cannot be made in {folder.parent} ({first_line(error)}); mend that, or set XDG_CACHE_HOME to "
            "another place"
        ) from None


def remove_leftovers(cache: Path) -> None:
    """Remove what processes left that were killed meanwhile: the lock of one that is at work is held."""
    for lock in cache.glob(f"{PARTIAL}*/{LOCK}"):
        if not is_held(lock):
            shutil.rmtree(lock.parent, ignore_errors=True)


def put(made: Path, folder: Path) -> None:
    """Rename a finished folder, unless another process has put its own there."""
    for path in made.iterdir():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
    try:
        os.rename(made, folder)
    except OSError:
        if not is_prepared(SMOL):
            raise


def convert(gguf: Path, folder: Path, on_progress: OnProgress) -> None:
    """Write what a GGUF file holds as a plain Llama in bfloat16 with its tokenizer."""
    with torch.device("meta"):
        model = LlamaForCausalLM(llama_config())
    on_progress(PhaseProgress("read", 0, 1, "files", 0, 0.0))
    with told_of_tensors(on_progress):
        found: dict[str, Any] = modeling_gguf_pytorch_utils.load_gguf_checkpoint(
            str(gguf), return_tensors=True, model_to_load=model, torch_dtype=torch.bfloat16
        )
    weights = found["tensors"]
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    folder.mkdir()
    with no_bars_for(str(folder)):
        model.save_pretrained(folder)
    shutil.copymode(folder / "config.json", folder / WEIGHTS)  # safetensors makes files that only their owner can read
    tokenizer(found["tokenizer"], found["tokenizer_config"]["chat_template"]).save_pretrained(folder)


def llama_config() -> LlamaConfig:
    """The model's own config.json; the one that comes out of GGUF says that it is quantised."""
    shape = KNOWN[SMOL]
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=shape.tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        dtype=torch.bfloat16,
    )


def tokenizer(found: dict[str, Any], chat_template: str) -> PreTrainedTokenizerFast:
    """The tokenizer as the model was trained with it.

    transformers makes another of a GGUF file: it names the wrong end token, and does not cut before digits, so that
    line ends before a number become other tokens.
    """
    vocabulary = {token: number for number, token in enumerate(found["tokens"])}
    merges = [tuple(pair.split(" ")) for pair in found["merges"]]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    kinds = zip(found["tokens"], found["token_type"], strict=True)
    made.add_special_tokens([AddedToken(token, normalized=False) for token, kind in kinds if kind == SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )


@contextmanager
def told_of_tensors(on_progress: OnProgress) -> Iterator[None]:
    """Within it, transformers tells `on_progress` how many tensors it has read, instead of showing a bar of its own."""

    def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        every = list(tensors)
        for number, tensor in enumerate(every):
            on_progress(PhaseProgress("convert", number, len(every), "tensors", 0, number / len(every)))
            yield tensor

    reader: Any = modeling_gguf_pytorch_utils
    theirs, reader.tqdm = reader.tqdm, counted
    try:
        yield
    finally:
        reader.tqdm = theirs
