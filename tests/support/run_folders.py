"""Run folders as a training leaves them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expo_lite.config.read import dump_yaml
from expo_lite.runs.folder import RunDir
from support.tiny_models import tiny_config

LEARNED: dict[str, Any] = {
    "groups_with_signal": 2,
    "failed_groups": 1,
    "mixed_groups": 2,
    "solved_groups": 1,
    "rescued_groups": 1,
    "updates": 1,
}
STUCK: dict[str, Any] = {"groups_with_signal": 0, "failed_groups": 4, "mixed_groups": 0, "solved_groups": 0}


def write_run(
    folder: Path,
    metrics: Sequence[dict[str, Any]] = (),
    evaluations: Sequence[dict[str, Any]] = (),
    samples: Sequence[dict[str, Any]] = (),
    status: dict[str, Any] | None = None,
    **settings: Any,
) -> RunDir:
    """A folder with these records; steps are numbered from 1 where they have no number."""
    run = RunDir(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run.config.write_text(dump_yaml(tiny_config(**settings)))
    numbered = [{"step": number, **step} for number, step in enumerate(metrics, 1)]
    for name, records in (("metrics", numbered), ("eval", evaluations), ("samples", samples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if status is not None:
        run.write_json("status.json", status)
    return run


def scores(name: str, step: int, *pass_at_1: float) -> dict[str, Any]:
    """A line of eval.jsonl, levels from 1."""
    estimates = [{"mean": mean, "low": mean, "high": mean} for mean in pass_at_1]
    asked = {"problems": 8, "samples": 4, "k": 4, "truncated_share": 0.0}
    levels = [
        {"level": level, **asked, "pass_at_1": estimate, "pass_at_k": estimate}
        for level, estimate in enumerate(estimates, 1)
    ]
    return {"step": step, "name": name, "levels": levels}


def against_base(before: Sequence[float], now: Sequence[float], name: str = "validation") -> list[dict[str, Any]]:
    """The base's scores and the policy's."""
    return [scores(f"base_{name}", 0, *before), scores(name, 9, *now)]


def explanation(text: str = "2+2=\\boxed{4}", **fields: Any) -> dict[str, Any]:
    """An accepted and trained explanation, as in samples.jsonl, and what is different about it."""
    usual = {"step": 1, "problem": "p", "answer": "4", "verdict": "correct", "rejected": None, "trained": True}
    return {"kind": "explanation", **usual, "text": text, **fields}
