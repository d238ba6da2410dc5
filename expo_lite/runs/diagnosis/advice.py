"""A run's folder through every check: in sentences while it trains, as findings for who asks later."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from expo_lite.config.settings import Config
from expo_lite.runs.diagnosis import LEARNING, Evidence, Finding, examine
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir


def gather(run: RunDir, config: Config) -> Evidence:
    """What a run has recorded so far, read from its folder."""
    return Evidence(config, run.read(METRICS), run.read(EVAL), run.read(SAMPLES))


def advise(run: Evidence) -> list[Finding]:
    """Why a run that is under way learns little, or what it loses; none if nothing is wrong."""
    return [finding for finding in examine(run, LEARNING) if finding.severity != "good"]


class Said:
    """Which findings were told, and how often: the first time with their sentences, then by their names."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()

    def lines(self, findings: Sequence[Finding]) -> list[str]:
        """What to say of these now."""
        new = self.new(findings)
        known = [finding.name for finding in findings if self.times[finding.name]]
        self.times.update(finding.name for finding in findings)
        again = ", ".join(f"{name.replace('_', ' ')} ({self.times[name]} times)" for name in known)
        return [*new, *([f"As before: {again}"] if again else [])]

    def new(self, findings: Sequence[Finding]) -> list[str]:
        """Sentences of those that were not told yet; they do not count."""
        return [finding.sentence for finding in findings if not self.times[finding.name]]


def diagnose(run: RunDir, config: Config, now: float | None = None) -> list[Finding]:
    """All findings, also on whether the run is alive."""
    status = run.read_status()
    heartbeat = status.get("heartbeat")
    silence = (time.time() if now is None else now) - heartbeat if heartbeat else 0.0
    recorded = gather(run, config)
    return examine(replace(recorded, folder=str(run.path), status=status, held=run.in_use(), silence=silence))
