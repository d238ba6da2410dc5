"""A merged model -> one GGUF file, written by llama.cpp's own converter in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from expo_lite.core.errors import ConfigError

SCRIPT, VARIABLE, FILE = "convert_hf_to_gguf.py", "LLAMA_CPP", "model.gguf"
_WRITTEN = b"GGUF"  # what every such file begins with


def find_converter(given: str | None) -> Path:
    """llama.cpp's converter: in the folder `given`, or in $LLAMA_CPP, or on the PATH; a path to the script will do too.

    Raises ConfigError where it is not there.
    """
    named = given or os.environ.get(VARIABLE)
    if not named:
        if found := shutil.which(SCRIPT):
            return Path(found).resolve()
        raise ConfigError(
            f"--format gguf: {SCRIPT} of llama.cpp is needed, and is not on the PATH. "
            "`git clone --depth 1 https://github.com/ggml-org/llama.cpp` brings it; then add --llama-cpp llama.cpp, or "
            f"set {VARIABLE} to that folder."
        )
    path = Path(named).expanduser().resolve()
    path = path / SCRIPT if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(f"{'--llama-cpp' if given else VARIABLE}: there is no {path}; name a checkout of llama.cpp")
    return path


def convert(converter: Path, merged: Path, to: Path, name: str) -> None:
    """Write the model in the folder `merged` to the file `to`, in the 16-bit type nearest to its own.

    `name` is what programs show it as. Raises ConfigError with the converter's own last words where it fails.
    """
    words = [sys.executable, converter, merged, "--outfile", to, "--outtype", "auto", "--model-name", name]
    done = subprocess.run(
        [*map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    if done.returncode or not begins_right(to):
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1] if lines else f"it ended with status {done.returncode}"
        raise ConfigError(f"--format gguf: {converter} failed: {last}\n{remedy(last)}")


def begins_right(path: Path) -> bool:
    """Whether a file is there and is a GGUF file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_WRITTEN)) == _WRITTEN


def remedy(last: str) -> str:
    """What to do, from the converter's last words."""
    if missing := re.search(r"No module named '([\w-]+)'", last):
        return f"It needs another package: {sys.executable} -m pip install {missing[1]}"
    if "pre-tokenizer was not recognized" in last:
        return "This llama.cpp does not know the base's tokenizer (that of the shipped tiny base is known to none)."
    return "To see all that it says, run it by hand on the folder that `--merged` writes."
