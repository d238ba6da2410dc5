"""What a run has recorded, read back."""

from __future__ import annotations

from expo_lite.grading.evaluator import Evaluation
from expo_lite.runs.folder import EVAL, RunDir


def validations(run: RunDir) -> dict[int, Evaluation]:
    """What a run has scored on its validation problems by step: the base at 0, then the adapter."""
    records = [record for record in run.read(EVAL) if record["name"] in ("base_validation", "validation")]
    return {record["step"]: Evaluation.from_record(record["levels"]) for record in records}
