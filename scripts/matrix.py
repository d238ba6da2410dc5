"""Other versions of libraries in, which tests fail with them out: `python -m scripts.matrix [NAME==VERSION ...]`.

Each goes into a folder of build/matrix/ that stands before this environment on the path; everything else stays as it
is here. The tests are those that lean on private parts of the libraries, and one training from its start to its card.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from expo_lite.config.versions import ANYWAY

ROOT = Path(__file__).resolve().parents[1]
OLD_TOKENIZERS = "tokenizers==0.22.2"  # transformers before 5.16 refuses newer ones
VERSIONS = [
    ["transformers==5.8.1", OLD_TOKENIZERS],
    ["transformers==5.15.1", OLD_TOKENIZERS],
    ["transformers==5.16.1"],
    ["transformers==5.18.0"],
    ["transformers==5.20.2"],
    ["transformers==5.22.2"],
    ["transformers==5.24.0"],
    ["peft==0.18.1"],
]
"""What is tested beside the versions of constraints.txt: both ends of each range, and some between."""
TESTS = [
    "tests/test_private_names.py",
    "tests/model/test_masks.py",
    "tests/model/test_prefix_tree.py",
    "tests/training/test_shared_prefixes.py",
    "tests/model/test_generation_linears.py",
    "tests/model/test_grouped_attention.py",
    "tests/model/test_attention_kernels.py",
    "tests/model/test_sampler.py",
    "tests/model/test_policy.py",
    "tests/model/test_prompts.py",
    "tests/training/test_minimal_step.py",
    "tests/runs/test_export.py",
    "tests/card/test_meta_step.py",
    "tests/commands/test_from_python.py",
    "--deselect=tests/model/test_prompts.py::test_leak_filter_takes_linear_time",  # it measures time
]


def main(asked: list[str]) -> int:
    """Test each; the exit status is 1 where anything failed."""
    passed = [passes(names) for names in ([[word] for word in asked] or VERSIONS)]
    return int(not all(passed))


def passes(names: list[str]) -> bool:
    """Install, run the tests and print their outcome, what failed with its reason."""
    folder = ROOT / "build" / "matrix" / "+".join(names)
    if not folder.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *names]
        subprocess.run(pip, check=True)
    path = os.pathsep.join(filter(None, [str(folder), str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | {"PYTHONPATH": path, ANYWAY: "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    print("\n".join([f"{' '.join(names)}: {lines[-1]}", *(lines[-60:-1] if done.returncode else [])]), flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
