"""The forms of an export, written into a folder and looked at again before they count."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from expo_lite.config.dotted import replaced
from expo_lite.config.methods import METHODS, method_of
from expo_lite.config.model_files import TINY, public_name, tiny_base
from expo_lite.config.read import dump_yaml
from expo_lite.core.errors import CheckpointError, ConfigError, first_line
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS
from expo_lite.model.plain_chat import give_plain_chat, plain_chat_of
from expo_lite.runs import files
from expo_lite.runs.export import gguf
from expo_lite.runs.export.adapter import Adapter
from expo_lite.runs.export.base_files import (
    CONFIG,
    MODEL,
    TOKENIZER,
    Stored,
    base_folder,
    beside_weights,
    described_by,
    read_json,
    refuse_quantised,
    stored_tensors,
    weight_files,
)
from expo_lite.runs.export.finished import FinishedRun
from expo_lite.runs.export.merging import merge, merged_type, refuse_unmergeable
from expo_lite.runs.model_card import ADAPTER, GGUF, MERGED, TINY_IN_EXPORT, Form, model_card

_SPARE = 64 * 2**20  # bytes for what is not weights


def export_adapter(run: FinishedRun, to: Path) -> None:
    """Write the adapter with all that PEFT and a reader need. Raises ExpoLiteError."""
    base = base_folder(run.config.policy.model, with_weights=False)
    refuse_other_model(run.adapter, base, run.config.policy.model)
    with written(to, (run.adapter.folder / WEIGHTS).stat().st_size) as folder:
        settings = run.adapter.settings | {"base_model_name_or_path": public_name(run.config.policy.model)}
        if run.config.policy.model == TINY:
            shutil.copytree(tiny_base(), folder / TINY_IN_EXPORT)
            settings["base_model_name_or_path"] = TINY_IN_EXPORT
        files.write_text(folder / SETTINGS, files.to_json(settings, indent=2) + "\n")
        shutil.copyfile(run.adapter.folder / WEIGHTS, folder / WEIGHTS)
        copy(described_by(base, TOKENIZER), folder)
        describe(run, folder, ADAPTER, write_plain_chat(folder))
        require_equal(folder / WEIGHTS, run.adapter.folder / WEIGHTS)


def export_merged(run: FinishedRun, to: Path, told: Callable[[int, int], None]) -> None:
    """Write base and adapter as one model; `told` hears how many bytes of how many are done. Raises ExpoLiteError."""
    base = mergeable_base(run)
    with written(to, base.size) as folder:
        plain = write_merged(run, base, folder, told)
        describe(run, folder, MERGED, plain)


def export_gguf(run: FinishedRun, to: Path, converter: Path, told: Callable[[int, int], None]) -> None:
    """The same as one GGUF file, by llama.cpp's converter: the merged model exists only meanwhile, beside it."""
    base = mergeable_base(run)
    with written(to, 2 * base.size) as folder:
        with tempfile.TemporaryDirectory(dir=folder) as merged:
            plain = write_merged(run, base, Path(merged), told)
            name = f"{Path(public_name(run.config.policy.model)).name} {METHODS[method_of(run.config)].title}"
            gguf.convert(converter, Path(merged), folder / gguf.FILE, name)
        describe(run, folder, GGUF, plain)


@dataclass(frozen=True)
class Base:
    """A base that can be merged: its folder, its weight files, and what they hold by name."""

    folder: Path
    weights: list[Path]
    stored: dict[str, Stored]

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(path.stat().st_size for path in self.weights)


def mergeable_base(run: FinishedRun) -> Base:
    """The run's base, looked at against its adapter. Raises ExpoLiteError where they cannot be merged."""
    model = run.config.policy.model
    folder = base_folder(model, with_weights=True)
    refuse_quantised(folder, model)
    weights = weight_files(folder, model)
    stored = stored_tensors(weights)
    refuse_other_model(run.adapter, folder, model)
    refuse_unmergeable(run.adapter, stored, model)
    return Base(folder, weights, stored)


def write_merged(run: FinishedRun, base: Base, folder: Path, told: Callable[[int, int], None]) -> str | None:
    """Write the merged weights and the base's other files into a folder, and look at them again.

    Returns what `write_plain_chat` does.
    """
    done = 0

    def add(size: int) -> None:
        nonlocal done
        done += size
        told(done, base.size)

    merge(run.adapter, base.weights, folder, add)
    copy([*described_by(base.folder, (*TOKENIZER, *MODEL)), *beside_weights(base.folder)], folder)
    settings = read_json(base.folder / CONFIG) | {"dtype": merged_type(run.adapter, base.stored)}
    settings.pop("torch_dtype", None)  # its older name
    files.write_text(folder / CONFIG, files.to_json(settings, indent=2) + "\n")
    refuse_other_model(run.adapter, folder, str(folder))
    require_same_tensors(base.stored, stored_tensors([folder / path.name for path in base.weights]))
    return write_plain_chat(folder)


@contextlib.contextmanager
def written(to: Path, weights: int) -> Iterator[Path]:
    """A folder to fill, which becomes `to` once it is complete; `weights` is about how many bytes that will be.

    Raises CheckpointError where the disk has no room for them, or cannot be written.
    """
    place = next(folder for folder in (to, *to.parents) if folder.is_dir())
    needed, free = weights + _SPARE, shutil.disk_usage(place).free
    if free < needed:
        raise CheckpointError(
            f"--to: {to} needs {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free there; make room, or "
            "choose another place"
        )
    try:
        with files.staged(to) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CheckpointError(f"--to: {to} cannot be written ({reason})") from None


def copy(paths: list[Path], folder: Path) -> None:
    """Copy files into a folder."""
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def write_plain_chat(folder: Path) -> str | None:
    """Beside a tokenizer without a chat template, write the one that was used; returns it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    give_plain_chat(tokenizer)
    plain = plain_chat_of(tokenizer)
    if plain:
        files.write_text(folder / "chat_template.jinja", plain)
    return plain


def describe(run: FinishedRun, folder: Path, form: Form, plain: str | None) -> None:
    """Write the settings and the model card; `plain` is the chat template where the base has none."""
    elsewhere = replaced(run.config, {"run": None})  # where the run was means nothing there
    files.write_text(folder / form.settings, dump_yaml(elsewhere))
    card = model_card(run.config, run.progress, run.base, run.before, run.after, form, run.packages, run.more, plain)
    files.write_text(folder / "README.md", card)


def refuse_other_model(adapter: Adapter, folder: Path, model: str) -> None:
    """Raises ConfigError where the model of a folder's config.json, built without weights, does not fit the adapter."""
    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"policy.model: cannot read {model!r}: {first_line(error)}") from None
    linears = {name: layer for name, layer in empty.named_modules() if isinstance(layer, torch.nn.Linear)}
    for name, (a, b) in adapter.matrices.items():
        if name not in linears or linears[name].weight.shape != (b.shape[0], a.shape[1]):
            raise ConfigError(
                f"policy.model: {model} has no linear layer {name} of {b.shape[0]} x {a.shape[1]}, which the adapter "
                "changes; name the model that it was trained on in the run's config.yaml"
            )


def require_equal(written: Path, original: Path) -> None:
    """Raises CheckpointError where a copy is not what was copied."""
    if files.sha256(written) != files.sha256(original):
        raise CheckpointError(f"{original} was not copied as it is; the disk may be failing: try another place")


def require_same_tensors(base: dict[str, Stored], merged: dict[str, Stored]) -> None:
    """Raises CheckpointError where the written files do not hold the base's tensors by name, type and shape."""
    names = [name for name in base | merged if base.get(name) != merged.get(name)]
    if names:
        raise CheckpointError(f"{names[0]} was not written as it is in the base; the disk may be failing")
