"""A finished run, read from its folder for an export: settings, scores, and the adapter it saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from expo_lite.config.read import read_config
from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError
from expo_lite.grading.evaluator import Evaluation
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.runs.checkpoint import RunProgress
from expo_lite.runs.export.adapter import Adapter, read_adapter
from expo_lite.runs.files import digest
from expo_lite.runs.folder import ADAPTER_DIGEST, EVAL, RunDir
from expo_lite.runs.target import RESULTS


@dataclass(frozen=True)
class FinishedRun:
    """What a run came to; `base` is scored on validation problems.

    `more` is the table of a later `expo-lite evaluate`, empty without one.
    """

    config: Config
    adapter: Adapter
    progress: RunProgress
    base: Evaluation
    before: Evaluation
    after: Evaluation
    packages: dict[str, str]
    more: str


def read_finished(run: RunDir, unchecked: bool) -> FinishedRun:
    """Read a finished run. `unchecked`: also one that noted no digest of its adapter.

    Raises ExpoLiteError where a file is missing or damaged, or the adapter is not the run's.
    """
    config = read_config(run.config)
    records = run.read(EVAL)
    tested = last(run, records, "test")
    chosen = best_validation(run, records)
    noted = chosen.get(ADAPTER_DIGEST)
    if noted is None and not unchecked:
        raise CheckpointError(
            f"{run.path}: eval.jsonl holds no digest of the adapter: the run is older than this check, so nobody can "
            "tell whether adapter/ is still what it saved. If you know that it is, add --unchecked."
        )
    adapter = read_adapter(run.adapter, config.policy, noted)
    progress = RunProgress(step=tested["step"], best_step=chosen["step"], best_score=mean_of(chosen))
    scores = (last(run, records, "base_validation"), last(run, records, "base_test"), tested)
    base, before, after = (Evaluation.from_record(record["levels"]) for record in scores)
    return FinishedRun(config, adapter, progress, base, before, after, packages(run), later_evaluation(run))


def last(run: RunDir, records: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The newest scores of a name. Raises CheckpointError where there are none."""
    found = [record for record in records if record["name"] == name]
    if not found:
        raise CheckpointError(
            f"{run.path}: eval.jsonl holds no scores {name!r}, which a finished run has; "
            f"python -m expo_lite.train --resume --run {run.path} takes them again"
        )
    return found[-1]


def best_validation(run: RunDir, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The validation after which the adapter was saved: the best, and the newest of several that are equal."""
    last(run, records, "validation")
    validations = [record for record in records if record["name"] == "validation"]
    return max(validations, key=lambda record: (mean_of(record), record["step"]))


def mean_of(record: dict[str, Any]) -> float:
    """What adapters are chosen by: pass@1 averaged over levels."""
    return Evaluation.from_record(record["levels"]).mean_pass_at_1


def packages(run: RunDir) -> dict[str, str]:
    """The versions that the run was made with; empty where environment.json cannot be read."""
    try:
        return json.loads(run.environment.read_text(encoding="utf-8"))["packages"]
    except (OSError, ValueError, KeyError):
        return {}


def later_evaluation(run: RunDir) -> str:
    """The table of RUN/evaluation, if it is there and of this adapter."""
    folder = run.path / RESULTS
    try:
        settings = json.loads((folder / "results.json").read_text(encoding="utf-8"))["settings"]
        same = settings["adapter"] == digest(run.adapter / WEIGHTS)
        return (folder / "results.md").read_text(encoding="utf-8") if same else ""
    except (OSError, ValueError, KeyError):
        return ""
