"""What a run can go on from: its newest sound checkpoint and its records, looked at before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError
from expo_lite.grading.evaluator import Evaluation
from expo_lite.model.adapter_files import SETTINGS, WEIGHTS
from expo_lite.model.adapter_weights import DAMAGED
from expo_lite.runs import files
from expo_lite.runs.checkpoint import RunProgress, best_adapter, copy_adapter, unsound
from expo_lite.runs.folder import ADAPTER_DIGEST, EVAL, METRICS, RECORDS, RunDir
from expo_lite.runs.manifest import noted_records
from expo_lite.runs.open import settings_of

Lines = Mapping[str, Sequence[tuple[bytes, Mapping[str, Any]]]]
"""A run's lines with their records, by file."""


def take_stock(run: RunDir, config: Config) -> list[str]:
    """Set the damaged checkpoints after the newest sound one aside; sentences on what is lost, none if nothing is.

    Raises DataError for records that cannot be read, CheckpointError where no checkpoint is left to go on from.
    """
    lines = {name: run.lines(name) for name in RECORDS}
    recorded = max([0, *(record["step"] for _, record in lines[METRICS])])
    damaged = []
    for step, folder in reversed(run.checkpoints()):
        if fault := unsound(folder):
            damaged.append((step, folder, fault))
        else:
            return [*set_aside(run, damaged, step, recorded), *gaps(run, step, lines, noted_records(folder))]
    if damaged:
        _, folder, fault = damaged[0]
        raise CheckpointError(
            f"{run.path}: none of its checkpoints is sound ({folder.name}: {fault}); put one back from a copy, or "
            "start anew in another --run"
        )
    if recorded > max(config.checkpoint.every, settings_of(run).checkpoint.every):
        raise CheckpointError(
            f"{run.path}: {METRICS} has {recorded} steps, but there is no checkpoint to go on from; put one back from "
            "a copy, or start anew in another --run"
        )
    return [f"No checkpoint was saved yet: {again(1, recorded)}."] if recorded else []


def set_aside(run: RunDir, damaged: list[tuple[int, Path, str]], sound: int, recorded: int) -> Iterator[str]:
    """Rename the damaged checkpoints; a sentence on each."""
    last = max([recorded, *(step for step, _, _ in damaged)])
    for _, folder, fault in damaged:
        place = run.set_aside(folder)
        yield (
            f"{folder} is damaged ({fault}); it is set aside as {place.name}. The checkpoint of step {sound} is used "
            f"instead: {again(sound + 1, last)}."
        )


def gaps(run: RunDir, step: int, lines: Lines, noted: dict[str, int]) -> Iterator[str]:
    """A sentence on each file that lacks records of the steps up to that of the checkpoint, `noted` bytes long then."""
    for name, of_file in lines.items():
        kept = sum(len(line) + 1 for line, record in of_file if record.get("step", 0) <= step)
        known = {record.get("step", 0) for _, record in of_file}
        missing = [number for number in range(1, step + 1) if name == METRICS and number not in known]
        if missing:
            yield f"{run.path / name} has no record of {numbered(missing)} any more: what is counted is too low."
        elif kept < noted.get(name, 0):
            last = max([0, *(number for number in known if number <= step)])
            yield (
                f"{run.path / name} lacks {noted[name] - kept} bytes of {numbered(range(last, step + 1))}, which were "
                "there when the checkpoint was saved: what is counted is too low."
            )


def numbered(numbers: Sequence[int]) -> str:
    """Steps by number; those that follow each other as a range."""
    first, last = numbers[0], numbers[-1]
    if first == last:
        return f"step {first}"
    whole = len(numbers) == last - first + 1
    return f"steps {first} to {last}" if whole else f"steps {', '.join(map(str, numbers))}"


def again(first: int, last: int) -> str:
    """Which steps are computed once more."""
    return f"step {first} is trained again" if first == last else f"steps {first} to {last} are trained again"


def newest_sound(run: RunDir) -> str:
    """What to go on from where training went wrong, as a sentence."""
    for step, folder in reversed(run.checkpoints()):
        if unsound(folder) is None:
            return f"The newest sound checkpoint is that of step {step}: {folder}."
    return "No sound checkpoint was saved before."


def roll_back_adapter(run: RunDir, checkpoint: Path, progress: RunProgress) -> RunProgress:
    """Let adapter/ hold the best one as of a checkpoint: a validation after that may have replaced it.

    The progress that is returned knows of no best one where adapter/ is another and the checkpoint, an older one, has
    no copy.
    """
    if not progress.best_step:
        files.remove(run.adapter)
        return progress
    source = best_adapter(checkpoint, progress)
    if source is None:
        return progress if is_of_step(run, progress.best_step) else replace(progress, best_step=0, best_score=-1.0)
    if not all(files.same_file(source / name, run.adapter / name) for name in (SETTINGS, WEIGHTS)):
        with run.staged(run.adapter) as folder:
            copy_adapter(source, folder)
    return progress


def recorded_scores(run: RunDir, name: str, step: int, samples: int) -> Evaluation | None:
    """Scores that the folder holds already, taken with so many samples."""
    for record in run.read(EVAL):
        if (record["name"], record["step"]) == (name, step):
            found = Evaluation.from_record(record["levels"])
            if found.levels[0].samples == samples:
                return found
    return None


def is_of_step(run: RunDir, step: int) -> bool:
    """Whether adapter/ can be read and is what was saved after the validation of a step, as far as that was noted."""
    weights = run.adapter / WEIGHTS
    found = [record for record in run.read(EVAL) if (record["name"], record["step"]) == ("validation", step)]
    noted = found[-1].get(ADAPTER_DIGEST) if found else None
    try:
        load_file(weights)
    except DAMAGED:
        return False
    return noted in (None, files.sha256(weights))
