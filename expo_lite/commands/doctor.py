"""Say why a run learns, or does not: `expo-lite doctor runs/tiny-expo-seed0`.

It reads the run's folder, whether the run is under way, stopped or finished, and loads no model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from expo_lite.config import process_setup
from expo_lite.config.flags import Parser
from expo_lite.config.read import read_config
from expo_lite.core.errors import CheckpointError
from expo_lite.core.terminal import tell
from expo_lite.runs.diagnosis import Finding
from expo_lite.runs.diagnosis.advice import diagnose
from expo_lite.runs.files import to_json
from expo_lite.runs.folder import RunDir

WELL = "good"
HEADS = {"serious": "Why it does not learn", "warning": "What holds it back", "note": "By the way"}


@process_setup.command
def main(argv: list[str]) -> int:
    """Print the findings; the exit status is 0 whenever the run could be read."""
    given = _parser().parse_args(argv)
    run = RunDir(given.run)
    if not run.config.is_file():
        raise CheckpointError(f"{run.path} holds no run (no config.yaml); name a run's folder, such as {EXAMPLE}")
    config = read_config(run.config)
    try:
        findings, status = diagnose(run, config), run.read_status()
    except OSError as error:
        raise CheckpointError(f"{run.path} cannot be read ({error.strerror or error}); mend its permissions") from None
    about = {name: status.get(name) for name in ("state", "step")} | {"steps": config.steps}
    if given.json:
        print(to_json({"run": str(run.path), **about, "findings": [asdict(one) for one in findings]}, indent=2))
    else:
        tell("\n".join(map(printable, report(str(run.path), about, findings))))
    return 0


EXAMPLE = "runs/tiny-expo-seed0"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="expo-lite doctor",
        description="Say why a run learns, or does not, and which setting to change. Loads no model.",
        epilog="What each number means: docs/reading-a-run.md",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help=f"a run's folder, such as {EXAMPLE}")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def report(name: str, about: dict[str, Any], findings: Sequence[Finding]) -> Iterator[str]:
    """The answer in lines: where the run is, what goes well, and what does not with what to do about it."""
    yield f"{name}: {about['state'] or 'not begun'}, step {about['step'] or 0} of {about['steps']}."
    good = [finding.sentence for finding in findings if finding.severity == WELL]
    bad = [finding for finding in findings if finding.severity in ("serious", "warning")]
    if bad:
        yield from (f"  {sentence}" for sentence in ("Going well:", *good) if good)
    elif all(finding.name != "no_steps" for finding in findings):
        yield " ".join(("Nothing is wrong.", *good))
    for severity, head in HEADS.items():
        of_kind = [finding for finding in findings if finding.severity == severity]
        if of_kind:
            yield f"\n{head}:"
        for finding in of_kind:
            yield from _lines(finding)


def _lines(finding: Finding) -> Iterator[str]:
    """A finding, the flag to try, and the rows behind it."""
    yield f"* {finding.sentence}"
    if finding.setting:
        yield f"    change: {finding.setting}"
    for case in finding.cases:
        text = case.get("text")
        yield "    " + ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in case.items() if key != "text")
        if text is not None:
            yield from (f"    | {line}" for line in text.splitlines())


def printable(line: str) -> str:
    """Without control characters: models write anything, and a terminal obeys some of it."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in line)
