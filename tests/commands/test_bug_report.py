"""`expo-lite bug-report`: what a bug report needs, and nothing about the person."""

from __future__ import annotations

import getpass
import importlib
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expo_lite.commands import bug_report
from expo_lite.config.model_files import tiny_base
from expo_lite.config.presets import presets
from expo_lite.runs import environment


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The report; where a name comes twice, its last value."""
    assert bug_report.main([]) == 0
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in capsys.readouterr().out.splitlines())
    }


def broken(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """No library can be imported."""

    def fails(name: str) -> Any:
        raise OSError(message)

    monkeypatch.setattr(importlib, "import_module", fails)


def test_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys)
    assert shown["python"] == platform.python_version()
    assert {"torch", "bitsandbytes", "platform", "nvidia-smi", "[app]", "[unsloth]", "[reasoning]"} <= set(shown)
    assert shown["import torch"].startswith("works; ") and shown["import bitsandbytes"] == "works"
    assert shown["presets"] == f"{', '.join(presets())} (from this checkout)"
    assert shown["tiny base"].startswith("whole, ")


@pytest.mark.parametrize("gguf", ["0.19.0", None])
def test_what_a_conversion_depends_on(
    gguf: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What reads models, and of the extra `smol` whether it is there."""

    def version(package: str) -> str:
        found = gguf if package == "gguf" else f"1 of {package}"
        if found is None:
            raise PackageNotFoundError(package)
        return found

    monkeypatch.setattr(environment, "version", version)
    shown = lines(capsys)
    for package in ("tokenizers", "safetensors", "huggingface-hub", "reasoning-gym"):
        assert shown.get(package) == f"1 of {package}"
    assert shown.get("gguf") == gguf
    assert shown["[smol]"] == f"gguf {gguf or 'is not installed'}"


def test_every_extra_is_reported() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = pyproject.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert dict(re.findall(r'^(\w+) = \["([\w-]+)', extras, re.MULTILINE)) == bug_report.EXTRAS


def test_nothing_personal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, "/home/zaphod beeblebrox")
    monkeypatch.setattr(getpass, "getuser", lambda: "zaphod")
    monkeypatch.setattr(platform, "node", lambda: "heart-of-gold")
    monkeypatch.setattr(platform, "platform", lambda: "Linux-6.1-heart-of-gold")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    where = "/home/zaphod beeblebrox/secret/lib/libtorch.so: lost; C:\\Users\\zaphod\\x.dll on heart-of-gold for zaphod"
    broken(monkeypatch, where)
    assert bug_report.main([]) == 0
    shown = capsys.readouterr().out
    assert [word for word in ("zaphod", "beeblebrox", "heart-of-gold", "secret", "home") if word in shown] == []
    assert "BROKEN, OSError: .../libtorch.so: lost; .../x.dll on HOST for USER\n" in shown


def test_a_broken_torch_is_a_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken(monkeypatch, "libcudart.so.13: cannot open shared object file\nand advice")
    shown = lines(capsys)
    assert shown["import torch"] == "BROKEN, OSError: libcudart.so.13: cannot open shared object file"
    assert shown["tiny base"].startswith("whole, ")  # the rest is still said


def test_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    card = SimpleNamespace(name="Tesla T4", total_memory=15 * 2**30, major=7, minor=5)
    cuda = SimpleNamespace(device_count=lambda: 1, get_device_properties=lambda n: card)
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.8"), get_num_threads=lambda: 2)
    monkeypatch.setattr(importlib, "import_module", lambda name: torch)
    shown = lines(capsys)["import torch"]
    assert shown == "works; 2 threads; built for CUDA 12.8; GPUs: Tesla T4 (15.0 GiB, compute capability 7.5)"


@pytest.mark.parametrize(
    ("status", "output", "said"),
    [(0, "Tesla T4, 15360 MiB, 550.54, 7.5\n", "Tesla T4, 15360 MiB, 550.54, 7.5"), (9, "", "fails with 9")],
)
def test_the_driver(status: int, output: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=status, stdout=output)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: done)
    assert bug_report.nvidia_smi() == said


def test_a_damaged_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base(), base)
    assert bug_report.whole(base).startswith("whole, ")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert bug_report.attempt(lambda: bug_report.whole(base)).startswith("BROKEN, ")
    (base / "config.json").unlink()
    assert bug_report.attempt(lambda: bug_report.whole(base)) == "BROKEN, without config.json: install again"
