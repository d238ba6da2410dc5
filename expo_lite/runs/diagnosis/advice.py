"""A run's folder through every check: in sentences while it trains, as findings for who asks later."""

from __future__ import annotations

import time

from expo_lite.config.settings import Config
from expo_lite.runs.diagnosis import LEARNING, Evidence, Finding, examine
from expo_lite.runs.folder import EVAL, METRICS, SAMPLES, RunDir


def advise(run: RunDir, config: Config) -> list[str]:
    """Sentences on why a run that is under way learns little, or what it loses; none if nothing is wrong."""
    findings = examine(Evidence(config, run.read(METRICS), run.read(EVAL), run.read(SAMPLES)), LEARNING)
    return [finding.sentence for finding in findings if finding.severity != "good"]


def diagnose(run: RunDir, config: Config, now: float | None = None) -> list[Finding]:
    """All findings, also on whether the run is alive."""
    status = run.read_status()
    heartbeat = status.get("heartbeat")
    evidence = Evidence(
        config,
        run.read(METRICS),
        run.read(EVAL),
        run.read(SAMPLES),
        str(run.path),
        status,
        run.in_use(),
        (time.time() if now is None else now) - heartbeat if heartbeat else 0.0,
    )
    return examine(evidence)
