"""Is the run still a run: alive, ended by an error, or without a single step?"""

from __future__ import annotations

import shlex

from expo_lite.runs.diagnosis.evidence import Evidence, Finding

SILENT = 60.0  # seconds without a sign of life, before a free folder means death


def died(run: Evidence) -> Finding | None:
    """It says that it runs, and no process holds its folder."""
    if run.status.get("state") != "running" or run.held or run.silence <= SILENT:
        return None
    sentence = (
        f"The run says that it is running, but no process holds its folder and its last sign of life was "
        f"{ago(run.silence)} ago, after step {run.status.get('step')}: it was killed. Resume it."
    )
    return Finding("died", "serious", sentence, resume(run))


def failed(run: Evidence) -> Finding | None:
    """It ended with an error."""
    if run.status.get("state") != "failed":
        return None
    sentence = (
        f"The run ended with an error after step {run.status.get('step')}. "
        "What was wrong stood in its terminal; once it is mended, resume it."
    )
    return Finding("failed", "serious", sentence, resume(run))


def no_steps(run: Evidence) -> Finding | None:
    """Nothing to judge yet."""
    return (
        None if run.metrics else Finding("no_steps", "note", "No step is recorded yet, so there is nothing to judge.")
    )


def resume(run: Evidence) -> str:
    """The command line's words."""
    return f"--resume --run {shlex.quote(run.folder)}"


def ago(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


CHECKS = (died, failed, no_steps)
