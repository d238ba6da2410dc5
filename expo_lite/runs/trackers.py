"""Experiment trackers beside a run's folder, through accelerate's classes: they get the records that it gets."""

from __future__ import annotations

import heapq
import math
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from textwrap import indent
from typing import Any

from expo_lite.config.dotted import flat
from expo_lite.config.messages import as_text
from expo_lite.config.read import dump_yaml
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError, first_line
from expo_lite.core.tables import TextTable
from expo_lite.runs.environment import version_of
from expo_lite.runs.files import read_object
from expo_lite.runs.folder import METRICS, RECORDS, SAMPLES, RunDir

PROJECT = "expo-lite"
"""What wandb and trackio put runs into, unless WANDB_PROJECT says otherwise."""
KNOWN = "trackers.json"
"""In a run's folder, the trackers that have followed it, each with the id by which it knows the run."""
COLUMNS = (
    *("step", "kind", "level", "question", "answer", "text", "verdict", "tokens"),
    *("reward", "group", "pass_rate", "rejected", "trained"),
)
FINISH_SECONDS = 60.0
"""How long the end of a run waits for wandb to send the rest; what is not sent stays in the run's folder."""
_AS_IT_STANDS = str.maketrans({"\n": "<br>", **{sign: f"&#{ord(sign)};" for sign in r"&<>|*_`[]#~$\\"}})


def require_trackers(names: Collection[str]) -> None:
    """Raises ConfigError where a tracker is not installed."""
    if missing := [name for name in sorted(names) if version_of(name) is None]:
        raise ConfigError(
            f"trackers: needs {' and '.join(missing)}, which cannot be found: pip install {' '.join(missing)}"
        )


class Trackers:
    """What a run records, handed on to trackers. One that raises an error is left out: the run goes on without it."""

    def __init__(self, config: Config, run: RunDir, names: Collection[str], warn: Callable[[str], None]) -> None:
        self.config, self.run, self.names, self.warn = config, run, names, warn
        self.started: dict[str, Any] = {}  # accelerate's

    @contextmanager
    def following(self, step: int) -> Iterator[None]:
        """Follow a run that goes on after `step`, until the block ends. What is new to it gets the earlier records."""
        known = read_object(self.run.path / KNOWN) if self.names else {}
        for name in sorted(self.names):
            with self.or_without(name):
                run_id = known.get(name) or secrets.token_hex(4)
                self.started[name] = start(name, self.config, self.run, run_id, step if name in known else None)
                if name not in known or getattr(self.started[name].tracker, "offline", False):
                    self.catch_up(self.started[name])  # offline, wandb begins a file, and a killed one may be empty
                known[name] = run_id
                self.run.write_json(KNOWN, known)
        try:
            yield
        finally:
            for name, tracker in list(self.started.items()):
                with self.or_without(name):
                    tracker.finish()

    def log(self, file: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Hand on the records of one step that were added to a file."""
        for name, tracker in list(self.started.items()):
            with self.or_without(name):
                self.give(tracker, file, records)

    @contextmanager
    def or_without(self, name: str) -> Iterator[None]:
        """Where a tracker raises an error, warn and leave it out from then on."""
        try:
            yield
        except Exception as error:  # a library's or a service's: whatever it raises
            self.started.pop(name, None)
            what = f"{type(error).__name__}: {first_line(error)}"
            self.warn(f"{name} has failed and is left out from here on ({what}); the run's folder has everything.")

    def catch_up(self, tracker: Any) -> None:
        """Hand on what the run's folder holds already, step by step."""
        files = ([(record.get("step", 0), name, record) for record in self.run.read(name)] for name in RECORDS)
        merged = heapq.merge(*files, key=lambda entry: entry[0])
        for (_, name), entries in groupby(merged, key=lambda entry: entry[:2]):
            self.give(tracker, name, [record for _, _, record in entries])

    def give(self, tracker: Any, file: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Hand a tracker the records of one step: numbers; or, at some steps, samples."""
        if file != SAMPLES:
            for record in records:
                tracker.log(scalars(file, record), step=record["step"])
        elif records and self.shows_samples(records[0].get("step", 0)):
            log_samples(tracker, records)

    def shows_samples(self, step: int) -> bool:
        """Whether the samples of a step are handed on: of the first, and of those that a validation follows."""
        return step in (1, self.config.steps) or step % self.config.evaluation.every == 0


def scalars(file: str, record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record by name: metrics by their own, scores such as `validation/level_1/pass_at_1`.

    The base's scores are those of step 0. What is not finite is left out.
    """
    if file == METRICS:
        found = {name: value for name, value in record.items() if name != "step" and value is not None}
    else:
        name = record["name"].removeprefix("base_")
        found = {f"{name}/forgotten_share_max": record.get("forgotten_share_max", math.nan)}
        for score in record["levels"]:
            level = f"{name}/level_{score['level']}"
            found |= {f"{level}/{key}": score[key]["mean"] for key in ("pass_at_1", "pass_at_k")}
            found[f"{level}/truncated_share"] = score["truncated_share"]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """Every setting by its dotted name, as all trackers take it."""
    values = flat(config.model_dump()).items()
    return {name: value if isinstance(value, (bool, int, float, str)) else as_text(value) for name, value in values}


def start(name: str, config: Config, run: RunDir, run_id: str, after: int | None) -> Any:
    """A tracker under way: for a new run, or going on `after` a step of one that it knows by `run_id`."""
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    PartialState()  # which they ask who may write; by itself it finds one process, and takes no card
    values, title = hyperparameters(config), run.path.resolve().name
    if name == "wandb":
        quiet = {"console": "off", "quiet": True, "finish_timeout": FINISH_SECONDS, "finish_timeout_raises": True}
        project, options = os.environ.get("WANDB_PROJECT", PROJECT), {"config": values, "allow_val_change": True}
        tracker = WandBTracker(project, id=run_id, name=title, resume="allow", dir=run.path, settings=quiet, **options)
        tracker.start()
    elif name == "trackio":
        tracker = TrackioTracker(PROJECT, name=f"{title}-{run_id}", resume="allow", config=values, embed=False)
        tracker.start()
    else:
        purge = None if after is None else after + 1  # what a killed run wrote later is trained again
        tracker = TensorBoardTracker("tensorboard", run.path, purge_step=purge)
        tracker.start()
        describe(tracker.writer, config, after or 0)
    return tracker


def describe(writer: Any, config: Config, step: int) -> None:
    """Write the settings into TensorBoard's file; its own `add_hparams` begins a second one, which hides the first."""
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(hyperparameters(config), {"reward_mean": 0.0}):
        writer.file_writer.add_summary(summary)
    writer.add_text("config", indent(dump_yaml(config), "    "), step)


def log_samples(tracker: Any, records: Sequence[Mapping[str, Any]]) -> None:
    """The samples of one step as a table; TensorBoard has texts only, so there it is one in Markdown."""
    rows, step = [[record.get(column) for column in COLUMNS] for record in records], records[0].get("step", 0)
    if tracker.name == "wandb":
        tracker.log_table("samples", list(COLUMNS), rows, step=step)
    elif tracker.name == "trackio":
        import trackio  # pyright: ignore[reportMissingImports]

        tracker.log({"samples": trackio.Table(list(COLUMNS), rows)}, step=step)
    else:
        cells = [["" if value is None else str(value).translate(_AS_IT_STANDS) for value in row] for row in rows]
        table = TextTable("samples", COLUMNS, cells, words=range(len(COLUMNS)))
        tracker.log({"samples": table.markdown()}, step=step)
