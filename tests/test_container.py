"""Dockerfile: it parses, copies what exists and what is needed, and its commands are README's. No container is run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

parser = pytest.importorskip("dockerfile_parse")
ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def instructions(name: str) -> list[str]:
    """The values of an instruction, with build arguments at their defaults."""
    read = parser.DockerfileParser(path=str(ROOT / "Dockerfile"), env_replace=False)
    defaults = dict(step["value"].split("=", 1) for step in read.structure if step["instruction"] == "ARG")
    values = [step["value"] for step in read.structure if step["instruction"] == name]
    for argument, default in defaults.items():
        values = [value.replace(f"${{{argument}}}", default) for value in values]
    return values


def copied() -> list[str]:
    return [source for value in instructions("COPY") for source in value.split()[:-1]]


def test_every_instruction_is_known() -> None:
    read = parser.DockerfileParser(path=str(ROOT / "Dockerfile"))
    found = [step["instruction"] for step in read.structure if step["instruction"] != "COMMENT"]
    assert found == ["FROM", "WORKDIR", "ARG", "RUN", "COPY", "COPY", "COPY", "RUN", "CMD"]
    assert read.baseimage == "python:3.11-slim"


def test_the_commands_are_those_of_the_readme() -> None:
    (command,) = instructions("CMD")
    train = " ".join(json.loads(command))
    torch, package = (value.replace(" --no-cache-dir", "") for value in instructions("RUN"))
    assert f"pip install -c constraints.txt -e . && {train}\n" in README
    assert f"`{torch}`" in README and f"\n{package} && python app.py\n" in README


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line.removeprefix("!").rstrip("/") for line in lines if line.startswith("!")]
    assert lines[1] == "*" and sorted(kept) == sorted(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_what_is_copied_is_enough(tmp_path: Path) -> None:
    """Its last two commands, in a folder with nothing else: installed, and asked for the settings."""
    for name in copied():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    site = tmp_path / "site"
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", site]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = {"cwd": tmp_path, "env": environment, "check": True, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "-e", "."], **run)
    assert any(re.fullmatch(r"expo_lite-.+\.dist-info", path.name) for path in site.iterdir())
    (command,) = instructions("CMD")
    words = [sys.executable, *json.loads(command)[1:], "--dry-run"]
    assert "device: cpu" in subprocess.run(words, **run).stdout
