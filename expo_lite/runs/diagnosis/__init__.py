"""Why a run learns or does not: pure functions from its records to findings. Imports no torch.

The same checks warn while a run trains (`advice`) and explain it afterwards (`expo_lite.commands.doctor`).
"""

from __future__ import annotations

from collections.abc import Callable

from expo_lite.runs.diagnosis import attempts, explanations, process, scores, signal, updates, wrong_answers
from expo_lite.runs.diagnosis.evidence import Evidence, Finding, Severity

Check = Callable[[Evidence], Finding | None]
ORDER: tuple[Severity, ...] = ("good", "serious", "warning", "note")
LEARNING: tuple[Check, ...] = tuple(
    check for room in (signal, scores, attempts, explanations, wrong_answers, updates) for check in room.CHECKS
)
EVERY: tuple[Check, ...] = (*process.CHECKS, *LEARNING)


def examine(run: Evidence, checks: tuple[Check, ...] = EVERY) -> list[Finding]:
    """What the checks find: first what goes well, then the worst first."""
    answers = (check(run) for check in checks)
    return sorted(filter(None, answers), key=lambda finding: ORDER.index(finding.severity))
