"""Finished runs to export, and their export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from expo_lite.commands import export
from expo_lite.config.model_files import model_source
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.model.adapter_weights import save_adapter
from expo_lite.runs.files import sha256
from expo_lite.runs.folder import ADAPTER_DIGEST, RunDir
from support.run_folders import write_run
from support.scripted_trainings import levels
from support.tiny_models import nf4_policy

FINISHED = {"step": 8, "state": "finished", "steps": 8}


def store_as(base: Path, dtype: torch.dtype, **how: Any) -> Path:
    """The same base with its weights in another type, or in several files."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, **how)
    return base


def make_run(folder: Path, base: Path | str, strength: float = 1.0, **settings: Any) -> RunDir:
    """A finished run whose adapter is random; the best of its validations was not the last."""
    policy = nf4_policy(Path(model_source(str(base))), quantization="none")
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data *= strength
    wanted = {"model": str(base), "device": "cpu", "quantization": "none", "lora_rank": 4} | settings.pop("policy", {})
    run = write_run(folder, status=FINISHED, policy=wanted, **settings)
    save_adapter(run.adapter, policy.model)
    noted = {ADAPTER_DIGEST: sha256(run.adapter / WEIGHTS)}
    for name, step, mean, more in (
        ("base_validation", 0, 0.1, {}), ("base_test", 0, 0.1, {}), ("validation", 4, 0.5, noted),
        ("validation", 8, 0.4, {}), ("test", 8, 0.5, {}),
    ):  # fmt: skip
        run.append("eval.jsonl", {"step": step, "name": name, "levels": levels(mean), **more})
    return run


def exported(run: RunDir | Path, to: Path, *flags: str) -> Path:
    """Where it was exported to."""
    folder = run.path if isinstance(run, RunDir) else run
    assert export.main([str(folder), "--to", str(to), *flags]) == 0
    return to
