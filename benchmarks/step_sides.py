"""One side of `benchmarks/step.py` in a process of its own: `python benchmarks/step_sides.py CASE STARTED`.

CASE is JSON, STARTED the time at which the process was started; prints what was measured as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from benchmarks.step_case import (
    Case,
    Measured,
    Stopwatch,
    config_of,
    forget_peak,
    problems_of,
    resident_mib,
    scripted_reward,
)
from expo_lite.grading.verifier import Verifier
from expo_lite.runs.assemble import assemble, settle
from expo_lite.training.dry_pass import without_end


def ours(case: Case, started: float) -> Measured:
    """This project's steps: GRPO, or ExPO that explains every failed group."""
    measured, empty = Measured(), resident_mib()
    watch = Stopwatch(measured, started)
    with Verifier() as verifier, assemble(settle(config_of(case), scripted_reward(case, verifier))) as parts:
        forget_peak()
        measured.loaded_mib, measured.model_mib = resident_mib(), resident_mib() - empty
        trainer, every = parts.trainer, problems_of(case)
        longest = max(len(parts.prompts.task(problem)) for of_step in every for problem in of_step) + case.tokens
        trainer.updater.units.micro_batch_tokens = case.at_once * longest
        trainer.needs_explanation = lambda group: not group.has_signal  # a rollout that was cut off is never right
        with without_end(parts.policy):
            for number, problems in enumerate(every, 1):
                watch.start()
                report = trainer.step(number, problems)
                watch.generating = report.metrics["generate_seconds"] + report.metrics["explain_seconds"]
                watch.stop()
        trained = [len(r.completion.completion_ids) for g in report.groups if g.has_signal for r in g.rollouts]
        trained += [len(e.completion.completion_ids) for of_group in report.trained_on for e in of_group]
        measured.prompt_tokens = sum(len(r.completion.prompt_ids) for g in report.groups for r in g.rollouts)
        measured.generated, measured.trained = report.metrics["generated_tokens"], sum(trained)
        measured.settings = f"base {case.quantization}, {case.dtype}, {trainer.updater.units}"
    measured.peak_mib = max(measured.loaded_mib, resident_mib(highest=True))  # the kernel's two counts differ by pages
    return measured


def main() -> None:
    """Measure the case on the command line."""
    case, started = Case(**json.loads(sys.argv[1])), float(sys.argv[2])
    if case.side == "trl":
        from benchmarks.step_trl import trls  # TRL is no part of this project, and another one may be on the path

        measured = trls(case, started)
    else:
        measured = ours(case, started)
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
