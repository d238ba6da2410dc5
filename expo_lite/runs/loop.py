"""A run from its first step to its last: validation, checkpoints, what is recorded, and stopping early."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError, DataError, MemoryBudgetError
from expo_lite.core.progress import in_phase
from expo_lite.core.records import Problem
from expo_lite.core.terminal import say
from expo_lite.grading.evaluator import Evaluation, comparison_table
from expo_lite.memory.halving import how_to_go_on, is_out_of_memory
from expo_lite.memory.measure import gpu_peak
from expo_lite.model.adapter_files import WEIGHTS
from expo_lite.model.adapter_weights import load_adapter, save_adapter
from expo_lite.problems import draw_problems
from expo_lite.runs.assemble import Assembly
from expo_lite.runs.checkpoint import BEST, RunProgress, copy_adapter, load_checkpoint, save_checkpoint
from expo_lite.runs.diagnosis.advice import Said, advise, gather
from expo_lite.runs.diagnosis.scores import forgotten
from expo_lite.runs.diagnosis.signal import rescue_line
from expo_lite.runs.display import Display, what_next
from expo_lite.runs.files import remove, sha256
from expo_lite.runs.folder import ADAPTER_DIGEST, EVAL, METRICS, SAMPLES, RunDir
from expo_lite.runs.manifest import write_manifest
from expo_lite.runs.model_card import model_card, standing_of
from expo_lite.runs.plots import plot_learning_curves
from expo_lite.runs.resume import recorded_scores, roll_back_adapter
from expo_lite.runs.stop import StopRequest
from expo_lite.runs.trackers import Trackers
from expo_lite.training.samples import sample_records
from expo_lite.training.step import StepReport


class Loop:
    """Steps of the trainer, with everything around them that a run's folder holds."""

    def __init__(
        self,
        config: Config,
        run: RunDir,
        parts: Assembly,
        console: Console,
        show: Callable[[Path], None] | None = None,
    ) -> None:
        self.config = config
        self.run = run
        self.parts = parts
        self.console = console
        self.show = show
        self.data = parts.problems.digest()
        self.progress = RunProgress(data=self.data)
        self.stop = StopRequest()
        followed_by = config.trackers if parts.ranks.is_first else ()
        self.trackers = Trackers(config, run, followed_by, lambda text: say(console, text, style="yellow"))
        self.said = Said()

    def to_the_end(self) -> int:
        """Run the remaining steps; 0 when done, 130 when stopped early (a checkpoint is saved then).

        Raises MemoryBudgetError, with how to go on, where memory runs out for good; the complete steps are saved then.
        """
        try:
            return self.remaining_steps()
        except DataError:  # a reward function's
            self.save_complete_steps()
            raise
        except (MemoryBudgetError, RuntimeError) as error:
            if not (isinstance(error, MemoryBudgetError) or is_out_of_memory(error)):
                raise
            self.save_complete_steps()
            saved_after = max([0, *(step for step, _ in self.run.checkpoints())])
            chunk = self.parts.trainer.updater.units.logprob_chunk
            raise MemoryBudgetError(how_to_go_on(error, saved_after, self.run.path, chunk)) from None

    def remaining_steps(self) -> int:
        """`to_the_end`, but for running out of memory."""
        self.resume()
        self.run.status(step=self.progress.step, state="running", steps=self.config.steps)
        shown = Display(self.console, self.config.steps, self.progress.step)
        with self.trackers.following(self.progress.step), shown as display:
            base = self.base_scores("base_validation", display)
            before = self.base_scores("base_test", display)
            with self.stop.on_signal(display.note):
                self.steps(base, display)
            after = self.test_scores(display) if self.progress.step == self.config.steps else None
        if after is None:
            return self.stopped(self.progress.step)
        self.finish(base, before, after)
        return 0

    def steps(self, base: Evaluation, display: Display) -> None:
        """The steps that remain, or those until the run is asked to stop, with validations and checkpoints."""
        display.validation(0, base, 0.0)
        at = self.progress.step
        if self.validation_due(at) and not (self.progress.best_step and self.recorded("validation", at)):
            self.validate(at, base, display)  # that is where memory ran out before
            self.save()
        problems = self.remaining_problems()
        display.begin_steps()
        for number in range(self.progress.step + 1, self.config.steps + 1):
            of_step = list(islice(problems, self.config.rollout.prompts_per_step))
            report = self.parts.trainer.step(number, of_step, display.on_progress)
            self.record(report)
            display.step(number, report.metrics)
            if self.validation_due(number):
                self.validate(number, base, display)
            stop = self.parts.ranks.any(self.stop.asked)  # the same step is the last for all
            last = number == self.config.steps
            if last or number % self.config.checkpoint.every == 0 or stop:
                self.save()
            if stop:
                break

    def resume(self) -> None:
        """Load the newest checkpoint, if any, and forget what was recorded after it."""
        checkpoints = self.run.checkpoints()
        if checkpoints:
            updater = self.parts.trainer.updater
            self.progress = load_checkpoint(checkpoints[-1][1], self.parts.policy.model, updater.load_state_dict)
            if self.progress.data != self.data:
                raise CheckpointError(
                    f"{self.run.path}: the problems are not those that this run was started with; put data.source back "
                    "as it was, or start anew in another --run"
                )
            say(self.console, f"Resuming {self.run.path} after step {self.progress.step}.")
            best = self.progress.best_step
            self.progress = roll_back_adapter(self.run, checkpoints[-1][1], self.progress)
            if best and not self.progress.best_step:
                lost = f"{self.run.adapter} is not the adapter of step {best} any more, and no checkpoint has a copy"
                say(self.console, f"{lost}: the best is chosen anew from this step on.", style="yellow")
        else:
            remove(self.run.adapter)
        self.run.truncate_after(self.progress.step)

    def remaining_problems(self) -> Iterator:
        """Training problems from where the run stands."""
        drawn = self.progress.step * self.config.rollout.prompts_per_step
        return draw_problems(self.parts.problems.train, self.config.data.levels, self.config.seed, drawn)

    def record(self, report: StepReport) -> None:
        """Write a step's metrics and samples, and give a sign of life."""
        self.progress = replace(self.progress, step=report.step)
        self.write(METRICS, {"step": report.step, **report.metrics, **gpu_peak(self.parts.policy.device)})
        self.write(SAMPLES, *sample_records(report))
        self.run.status(step=report.step, state="running", steps=self.config.steps)

    def write(self, file: str, *records: Mapping[str, Any]) -> None:
        """Add records of one step to a file of the run, and hand them on to its trackers."""
        self.run.append(file, *records)
        self.trackers.log(file, records)

    def validation_due(self, step: int) -> bool:
        """Whether a step is followed by validation."""
        return step > 0 and (step == self.config.steps or step % self.config.evaluation.every == 0)

    def validate(self, step: int, base: Evaluation, display: Display) -> None:
        """Score held-out problems, keep the adapter if it is the best so far, and warn where something is off."""
        evaluation = self.evaluate(self.parts.problems.validation, "validation", display)
        worst = max(0.0, *forgotten(base.record(), evaluation.record()).values())
        record = {"levels": evaluation.record(), "forgotten_share_max": worst}
        if evaluation.mean_pass_at_1 >= self.progress.best_score:
            self.progress = replace(self.progress, best_step=step, best_score=evaluation.mean_pass_at_1)
            with self.run.staged(self.run.adapter) as folder:
                save_adapter(folder, self.parts.policy.model)
            record[ADAPTER_DIGEST] = sha256(self.run.adapter / WEIGHTS)
        self.write(EVAL, {"step": step, "name": "validation", **record})
        display.validation(step, evaluation, worst)
        recorded = gather(self.run, self.config)
        for warning in self.said.lines(advise(recorded)):
            display.note(warning, style="yellow")
        plot_learning_curves(recorded, self.run.curves)
        if self.show is not None:
            self.show(self.run.curves)

    def base_scores(self, name: str, display: Display) -> Evaluation:
        """The base's scores (adapter off), from the folder if they were taken before."""
        if recorded := self.recorded(name, 0):
            return recorded
        sets = self.parts.problems
        display.note(f"Scoring the base on held-out problems ({name.removeprefix('base_')}) ...", style="dim")
        problems = sets.test if name == "base_test" else sets.validation
        with self.parts.policy.reference():
            evaluation = self.evaluate(problems, name.replace("_", " "), display)
        self.write(EVAL, {"step": 0, "name": name, "levels": evaluation.record()})
        return evaluation

    def test_scores(self, display: Display) -> Evaluation:
        """The best adapter's scores on the test problems; there already if a finished run is resumed."""
        load_adapter(self.run.adapter, self.parts.policy.model)
        step = self.progress.step
        if recorded := self.recorded("test", step):
            return recorded
        scores = self.evaluate(self.parts.problems.test, "test", display)
        self.write(EVAL, {"step": step, "name": "test", "levels": scores.record()})
        return scores

    def evaluate(self, problems: Sequence[Problem], phase: str, display: Display) -> Evaluation:
        """Scores of the model as it stands."""
        return self.parts.evaluator.evaluate(problems, on_progress=in_phase(phase, display.on_progress))

    def recorded(self, name: str, step: int) -> Evaluation | None:
        """Scores that the folder holds already, taken as they would be now."""
        return recorded_scores(self.run, name, step, self.config.evaluation.samples)

    def save(self) -> None:
        """Write a checkpoint, whole or not at all, and delete the oldest beyond `checkpoint.keep`."""
        training = self.parts.trainer.updater.state_dict()
        with self.run.staged(self.run.checkpoint(self.progress.step)) as folder:
            save_checkpoint(folder, self.parts.policy.model, training, self.progress)
            if self.progress.best_step not in (0, self.progress.step):
                copy_adapter(self.run.adapter, folder / BEST)
            write_manifest(folder, self.run.settle_records())
        for _, old in self.run.checkpoints()[: -self.config.checkpoint.keep]:
            remove(old)

    def save_complete_steps(self) -> None:
        """Save the state after the last complete step, unless part of a later update is already in the adapter."""
        step = self.progress.step
        if self.parts.trainer.updater.complete_steps == step and not self.run.checkpoint(step).exists():
            self.save()

    def stopped(self, step: int) -> int:
        """Say how to go on."""
        self.run.status(step=step, state="stopped", steps=self.config.steps)
        again = f"python -m expo_lite.train --resume --run {self.run.path}"
        say(self.console, f"Stopped after step {step}; nothing is lost. To go on:\n{again}")
        return 130

    def finish(self, base: Evaluation, before: Evaluation, after: Evaluation) -> None:
        """Write the model card, and say what came of the run: scores on the test problems, advice, where it lies."""
        card = model_card(self.config, self.progress, base, before, after)
        for path in (self.run.readme, self.run.adapter / "README.md"):  # the adapter may travel alone
            self.run.write_text(path.relative_to(self.run.path), card)
        self.run.status(step=self.progress.step, state="finished", steps=self.config.steps)
        self.console.print(comparison_table(before, after))
        recorded = gather(self.run, self.config)
        for sentence in self.said.new(advise(recorded)):  # the last validation has said the others just now
            say(self.console, sentence, style="yellow")
        if rescued := rescue_line(recorded.metrics, self.config.explanation.source):
            say(self.console, rescued)
        best = f"Adapter of step {self.progress.best_step} ({standing_of(self.progress, base)})"
        say(self.console, f"{best}: {self.run.adapter}\n{what_next(self.run)}")
