"""`.ci/run` tries slow tests that failed once more; what passed only then is named at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not (Path(__file__).parent.parent / ".ci").is_dir(), reason="needs bash and the repository"
)
RUN = Path(__file__).parent.parent / ".ci" / "run"
LATE = """
from pathlib import Path
import pytest

pytestmark = pytest.mark.slow

@pytest.mark.parametrize("size", ["small", "large one"])
def test_late(size):
    tried = Path(f"{size}.tried")
    if not tried.exists():
        tried.touch()
        pytest.fail("not yet")

def test_fine():
    pass
"""
BROKEN = "\ndef test_broken():\n    assert False\n"


def end_of_script(folder: Path, tests: str) -> tuple[int, list[str]]:
    """Exit status, and what is said of flakes, where these are the slow tests and all else passes."""
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    script = RUN.read_text()
    head = "set -euo pipefail\n" + script[script.index("section()") : script.index('section "install"')]
    middle = script[script.index('section "slow tests"') : script.index('section "unsloth"')]
    last = script[script.index('section "all passed"') :]
    pytest_here = f'pytest() {{ "{sys.executable}" -m pytest "$@"; }}\n'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        ["bash", "-c", head + pytest_here + middle + last], cwd=folder, env=environment, capture_output=True, text=True
    )
    return done.returncode, sorted(line for line in done.stdout.splitlines() if line.startswith("failed at first"))


def test_a_flake_is_named_at_the_end(tmp_path: Path) -> None:
    assert end_of_script(tmp_path, LATE) == (
        0,
        [
            "failed at first, passed alone: test_it.py::test_late[large one]",
            "failed at first, passed alone: test_it.py::test_late[small]",
        ],
    )


def test_where_all_pass_nothing_is_named(tmp_path: Path) -> None:
    for size in ("small", "large one"):
        (tmp_path / f"{size}.tried").touch()
    assert end_of_script(tmp_path, LATE) == (0, [])


def test_what_is_broken_fails_again(tmp_path: Path) -> None:
    assert end_of_script(tmp_path, LATE + BROKEN) == (1, [])
