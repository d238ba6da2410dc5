"""An evaluation from its problems to its results: one set of weights, adapter off for the base, on for the adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from expo_lite.config import process_setup
from expo_lite.config.settings import Config, DataConfig
from expo_lite.core.progress import ChunkProgress, OnProgress
from expo_lite.core.records import Answered, Problem
from expo_lite.core.terminal import say
from expo_lite.grading.evaluator import Evaluator
from expo_lite.grading.reward_function import Function, source_digest
from expo_lite.grading.scores import BASE, LevelResult, caption, level_results, results_table
from expo_lite.problems import load_test
from expo_lite.problems.tiny_world import note_on
from expo_lite.runs import files
from expo_lite.runs.assemble import Settled, assemble_evaluator, settle, with_prompts_within
from expo_lite.runs.display import PhaseDisplay
from expo_lite.runs.plots import plot_results
from expo_lite.studies.evaluate.answer_sheet import AnswerSheet, settings_of

SAVED_AFTER = 4  # times as many completions as are decoded together


def score(
    config: Config,
    trained: DataConfig | None,
    models: Sequence[str],
    ks: Sequence[int],
    folder: Path,
    console: Console,
    function: Function | None = None,
) -> int:
    """`scored`, with its table printed; the exit status, 130 after Ctrl-C."""
    found = scored(config, trained, models, ks, folder, console, function)
    if found is None:
        return process_setup.INTERRUPTED
    console.print(results_table(found.levels, found.title))
    say(console, f"Results: {folder}")
    return 0


@dataclass(frozen=True)
class Scored:
    """Scores by level, easiest first, with what they are; `folder` holds them as files."""

    levels: list[LevelResult]
    title: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.title}.\n\n{results_table(self.levels, self.title).markdown()}"

    _repr_markdown_ = __str__  # a notebook asks for this

    def write(self, settings: Mapping[str, object]) -> None:
        """results.json, results.md and results.png."""
        record = {"settings": settings, "levels": [asdict(level) for level in self.levels]}
        files.write_text(self.folder / "results.json", files.to_json(record, indent=2) + "\n")
        files.write_text(self.folder / "results.md", str(self))
        plot_results(self.levels, self.folder / "results.png")


def scored(
    config: Config,
    trained: DataConfig | None,
    models: Sequence[str],
    ks: Sequence[int],
    folder: Path,
    console: Console,
    function: Function | None = None,
) -> Scored | None:
    """Answer the test problems, judge, and write results into `folder`; None after Ctrl-C.

    `models` are some of BASE and ADAPTER; `trained` is the data that the weights were trained on, where that is known;
    `function` is the reward function, if it is not one to be imported. Raises ExpoLiteError.
    """
    problems, notes = load_test(config.data, trained, config.prompt.examples)
    for note in filter(None, (*notes, note_on(config.policy.model, problems))):
        say(console, note, style="yellow")
    settled = settle(config, function)
    source = source_digest(settled.function) if settled.function else None
    settings = settings_of(config, problems, source)
    with AnswerSheet(folder, settings) as sheet:
        try:
            answers = answer(settled, problems, models, sheet, console)
        except KeyboardInterrupt:
            say(console, f"Stopped; what is answered is kept in {folder}, and the same command goes on from there.")
            return None
        results = level_results(answers, ks)
        found = Scored(results, caption(results, config.rollout.temperature), folder)
        found.write(settings)
    return found


def answer(
    settled: Settled, problems: Sequence[Problem], models: Sequence[str], sheet: AnswerSheet, console: Console
) -> dict[str, list[Answered]]:
    """Every model's answers to the problems whose prompts are short enough; a row shows how far it is."""
    evaluator, limit = assemble_evaluator(settled), settled.config.rollout.max_prompt_tokens
    try:
        short = with_prompts_within(limit, problems, "test", evaluator.prompts)
        if len(short) < len(problems):
            left_out = f"{len(problems) - len(short)} problems with prompts of more than {limit} tokens are left out."
            say(console, left_out, style="yellow")
        with PhaseDisplay(console) as display:
            return {model: answer_as(model, evaluator, short, sheet, display.on_progress) for model in models}
    finally:
        evaluator.close()


def answer_as(
    model: str, evaluator: Evaluator, problems: Sequence[Problem], sheet: AnswerSheet, on_progress: OnProgress
) -> list[Answered]:
    """One model's answers, a few times as many at a time as are decoded together: so often they are saved."""
    at_once = max(1, SAVED_AFTER * evaluator.sampler.units.rollouts_alive // evaluator.samples)
    progress = ChunkProgress(model, len(problems) * evaluator.samples, on_progress)
    with evaluator.sampler.policy.reference() if model == BASE else nullcontext():
        return sheet.complete(
            model,
            problems,
            at_once,
            lambda chunk: evaluator.answer(chunk, progress.within),
            lambda done: progress.finished(done * evaluator.samples),
        )
