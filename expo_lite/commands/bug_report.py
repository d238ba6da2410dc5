"""What a bug report needs, in lines to paste: `expo-lite bug-report`.

It says nothing about the person: no folder outside the project, no name of user or machine, no environment
variable. It also works where torch is broken, since that is when it is needed.
"""

from __future__ import annotations

import getpass
import importlib
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from expo_lite.config import process_setup
from expo_lite.config.flags import Parser
from expo_lite.config.model_files import tiny_base
from expo_lite.config.presets import preset_folder, presets
from expo_lite.core.errors import first_line
from expo_lite.core.terminal import tell
from expo_lite.runs.environment import environment, version_of

EXTRAS = {
    "app": "gradio", "reasoning": "reasoning-gym", "smol": "gguf", "unsloth": "unsloth", "trackers": "tensorboard",
}  # fmt: skip
"""The optional extras, each with the first package that it brings."""
BASE_FILES = ("config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json")
GIB = 2**30
_FOLDERS = re.compile(r"(?:\b[A-Za-z]:)?(?:[\\/][^\\/\s'\":,;()]+)+[\\/]")


@process_setup.command
def main(argv: list[str]) -> None:
    """Print the lines."""
    Parser(
        prog="expo-lite bug-report",
        description="Print versions, hardware and what is missing, for a bug report. Nothing in it is personal.",
    ).parse_args(argv)
    for name, value in report():
        tell(f"{name + ':':<21}{anonymous(value)}")


def report() -> Iterator[tuple[str, str]]:
    """Names and values, line by line."""
    here = environment()
    yield "python", here["python"]
    yield "platform", here["platform"]
    yield "memory", f"{here['cpus']} CPUs, {_ram()}"
    for package, version in here["packages"].items():
        yield package, version
    for extra, package in EXTRAS.items():
        yield f"[{extra}]", f"{package} {version_of(package) or 'is not installed'}"
    yield "nvidia-smi", attempt(nvidia_smi)
    yield "import torch", attempt(lambda: _torch(importlib.import_module("torch")))
    yield "import bitsandbytes", attempt(lambda: _works("bitsandbytes"))
    where = "this checkout" if (preset_folder().parent / "pyproject.toml").is_file() else "the installed package"
    yield "presets", f"{', '.join(presets()) or 'none'} (from {where})"
    yield "tiny base", attempt(lambda: whole(tiny_base()))


def attempt(read: Callable[[], str]) -> str:
    """What it reads, or what went wrong: a broken library is a finding here, and no reason to stop."""
    try:
        return read()
    except Exception as error:  # whatever a half-installed library raises while it is imported
        return f"BROKEN, {type(error).__name__}: {first_line(error)}"


def anonymous(text: str) -> str:
    """Without folders and without the names of user and machine: messages of libraries hold them."""
    home = str(Path.home())
    text = _FOLDERS.sub(".../", text.replace(home, "/home") if len(home) > 1 else text)  # it may have a space in it
    for name, instead in ((attempt(getpass.getuser), "USER"), (platform.node(), "HOST")):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text) if name else text
    return text


def _works(library: str) -> str:
    importlib.import_module(library)
    return "works"


def _ram() -> str:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):  # Windows
        return "size of memory unknown"
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.1f} GiB"


def nvidia_smi() -> str:
    """What the driver sees, whatever torch does."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return "none: no NVIDIA driver is installed"
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else f"fails with {done.returncode}"


def _torch(torch: Any) -> str:
    """Threads, the CUDA that this build is for, and the GPUs that it sees."""
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    seen = [_gpu(torch.cuda.get_device_properties(n)) for n in range(torch.cuda.device_count())]
    return f"works; {torch.get_num_threads()} threads; built for {cuda}; GPUs: {', '.join(seen) or 'none'}"


def _gpu(properties: Any) -> str:
    memory = properties.total_memory / GIB
    return f"{properties.name} ({memory:.1f} GiB, compute capability {properties.major}.{properties.minor})"


def whole(base: Path) -> str:
    """Whether the shipped model is all there.

    Raises whatever opening damaged weights raises: the file's header says how long the file must be.
    """
    from safetensors import safe_open

    missing = [name for name in BASE_FILES if not (base / name).is_file()]
    if missing:
        return f"BROKEN, without {', '.join(missing)}: install again"
    with safe_open(base / "model.safetensors", framework="np") as weights:
        return f"whole, {len(list(weights.keys()))} tensors"
