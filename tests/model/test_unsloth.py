"""Unsloth as the backend: it is imported in time and only when asked for, and its numbers are transformers' own.

Without a GPU Unsloth runs its CPU backend; its GPU kernels are not under test here.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backend_numbers import KINDS

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.errors import ConfigError
from expo_lite.model import unsloth
from expo_lite.model.adapter_weights import save_adapter
from expo_lite.model.policy import load_policy
from expo_lite.model.unsloth import import_early, import_unsloth

SUPPORT = Path(__file__).parents[1] / "support"
installed = pytest.mark.skipif(
    importlib.util.find_spec("unsloth") is None, reason='needs Unsloth: pip install "expo-lite[unsloth]"'
)


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which Unsloth may patch."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )


class TestImport:
    """These need no Unsloth: a stand-in takes its place."""

    @pytest.fixture
    def stand_in(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        def write(code: str) -> None:
            (tmp_path / "unsloth").mkdir()
            (tmp_path / "unsloth" / "__init__.py").write_text(code)
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.delitem(sys.modules, "unsloth", raising=False)

        return write

    def test_nothing_happens_unless_it_is_asked_for(self, stand_in: Callable[[str], None]) -> None:
        stand_in("raise RuntimeError")
        import_early(PolicyConfig())

    def test_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match=r'^policy\.backend: .*pip install "expo-lite\[unsloth\]"'):
            import_early(PolicyConfig(backend="unsloth"))

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("raise NotImplementedError('You need a GPU.\\nMuch advice')", "here: You need a GPU.\n"),
            ("raise ImportError", "here: ImportError\n"),
        ],
    )
    def test_it_does_not_work_here(self, stand_in: Callable[[str], None], code: str, reason: str) -> None:
        stand_in(code)
        with pytest.raises(ConfigError) as caught:
            import_unsloth()
        assert reason in str(caught.value)

    def test_its_switches_are_set_while_it_is_imported(
        self, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = {"UNSLOTH_RETURN_HIDDEN_STATES": "1"}
        monkeypatch.setattr(unsloth.os, "environ", environment)
        stand_in("import os\nseen = dict(os.environ)")
        assert import_unsloth().seen == {"UNSLOTH_RETURN_HIDDEN_STATES": "0", "UNSLOTH_DISABLE_STATISTICS": "1"}

    def test_a_run_imports_it_before_transformers(self, tmp_path: Path) -> None:
        (tmp_path / "unsloth.py").write_text(
            "import sys\nprint('imported after', 'transformers' in sys.modules)\nraise ImportError('no more is needed')"
        )
        program = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from expo_lite.train import main; "
            "sys.exit(main(['--preset', 'tiny', '--policy.backend', 'unsloth']))"
        )
        ended = python("-c", program, cwd=tmp_path)
        assert ended.returncode == 2
        assert ended.stdout == "imported after False\n"
        assert ended.stderr.startswith("policy.backend: Unsloth does not work here: no more is needed\n")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """For each backend the numbers of every kind of loading, from the same adapter."""
    folder = tmp_path_factory.mktemp("backends")
    policy = load_policy(PolicyConfig(device="cpu"), 0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(folder / "adapter", policy.model)
    found = {}
    for backend in ("transformers", "unsloth"):
        file = folder / backend
        ended = python(str(SUPPORT / "backend_numbers.py"), backend, str(folder / "adapter"), str(file), cwd=folder)
        assert ended.returncode == 0, ended.stderr
        found[backend] = torch.load(file)
    return found


@installed
@pytest.mark.parametrize("kind", KINDS)
class TestNumbers:
    def test_logprobs_entropies_and_gradients(self, both: dict[str, Any], kind: str) -> None:
        ours, theirs = both["transformers"][kind], both["unsloth"][kind]
        for name in ("logprobs", "entropies", "reference", "gradients"):
            torch.testing.assert_close(theirs[name], ours[name], atol=1e-3, rtol=1e-4)
        assert (ours["logprobs"] - ours["reference"]).abs().max() > 0.1  # the adapter matters

    def test_completions(self, both: dict[str, Any], kind: str) -> None:
        if kind == "bfloat16":
            pytest.skip("in 16 bit, rounding may turn a close decision between two tokens")
        ours, theirs = both["transformers"][kind], both["unsloth"][kind]
        for name in ("greedy", "sampled", "greedy reference"):
            assert theirs[name] == ours[name]
        assert ours["greedy"] != ours["sampled"]

    def test_generating_changes_no_gradient(self, both: dict[str, Any], kind: str) -> None:
        theirs = both["unsloth"][kind]
        assert torch.equal(theirs["gradients"], theirs["gradients afterwards"])

    def test_a_new_adapter_and_what_is_trained(self, both: dict[str, Any], kind: str) -> None:
        ours, theirs = both["transformers"][kind], both["unsloth"][kind]
        assert torch.equal(theirs["fresh adapter"], ours["fresh adapter"])
        for name in ("trainable", "end ids", "training"):
            assert theirs[name] == ours[name]
        assert theirs["trainable"] == ["torch.float32"] and theirs["training"]


@installed
def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    small = ["--steps", "1", "--rollout.prompts-per-step", "4", "--data.validation-problems", "2"]
    small += ["--data.test-problems", "2", "--evaluation.samples", "1"]
    metrics = {}
    for backend in ("transformers", "unsloth"):
        flags = ["--preset", "tiny", "--policy.backend", backend, "--threads", "1", "--run", backend, *small]
        ended = python("-m", "expo_lite.train", *flags, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        record = json.loads((tmp_path / backend / "metrics.jsonl").read_text())
        metrics[backend] = {name: value for name, value in record.items() if "seconds" not in name}
    assert metrics["unsloth"] == pytest.approx(metrics["transformers"], rel=1e-3, abs=1e-6)
