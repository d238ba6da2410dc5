"""One session of a run: checks before anything is loaded, its folder and parts, and its end if it cannot go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from expo_lite.config.dotted import replaced
from expo_lite.config.hub import hub_names, offline_if_unreachable
from expo_lite.config.methods import require_an_initial_policy
from expo_lite.config.read import Request
from expo_lite.config.settings import Config
from expo_lite.core.errors import CheckpointError, ConfigError, DivergedError, MemoryBudgetError
from expo_lite.core.terminal import say
from expo_lite.grading.reward_function import Function
from expo_lite.memory.budget import lowered, without_graphs
from expo_lite.memory.cap import gib_of
from expo_lite.memory.forecast import HeldOut
from expo_lite.memory.halving import how_to_begin, is_out_of_memory
from expo_lite.model.ranks import Ranks
from expo_lite.problems.tiny_world import note_on
from expo_lite.runs.assemble import Assembly, Settled, assemble, settle
from expo_lite.runs.environment import environment
from expo_lite.runs.folder import EVAL, METRICS, RunDir
from expo_lite.runs.loop import Loop
from expo_lite.runs.on_card import room_left
from expo_lite.runs.open import allowed_changes, folder_of, start_run
from expo_lite.runs.resume import newest_sound, take_stock
from expo_lite.runs.space import said_if_refused, short_of, two_checkpoints
from expo_lite.runs.trackers import require_trackers
from expo_lite.training.dry_pass import expected, rehearse


def train(
    request: Request,
    console: Console | None = None,
    function: Function | None = None,
    show: Callable[[Path], None] | None = None,
) -> int:
    """Train from start, or from the last checkpoint with `request.resume`; returns the exit status.

    `function` is the reward function where it is given in Python; else the configuration may name one. `show` is given
    the picture of the learning curves after each validation.
    Raises ExpoLiteError, with a sentence on what to do, for whatever the user can mend.
    """
    ranks = Ranks.launched()
    console = console or Console(quiet=not ranks.is_first)
    settled = checked(request.config, ranks, function)
    with said_if_refused(folder_of(request)), run_of(request, ranks) as run:
        if request.resume:
            for note in filter(None, (allowed_changes(run, request.config), *take_stock(run, request.config))):
                say(console, note, style="yellow")
        with cleaned_up(run, request):
            say(console, f"Memory plan: {settled.planned}.", style="dim")
            with assemble(settled, ranks) as parts:
                needed = two_checkpoints(request.config, parts.policy)
                say_what_is_here(settled, run, parts, console, short_of(run.path, needed))
                with said_if_refused(run.path, needed):
                    return Loop(request.config, run, parts, console, show).to_the_end()


def checked(config: Config, ranks: Ranks, function: Function | None) -> Settled:
    """What can be found out before a folder is made and anything is loaded. Raises ExpoLiteError for what is amiss."""
    require_an_initial_policy(config)
    require_trackers(config.trackers)
    if ranks.count > 1 and config.policy.backend == "unsloth":
        raise ConfigError("policy.backend: unsloth is for one process (got several); set transformers")
    offline_if_unreachable(hub_names(config))
    return settle(config, function)


def say_what_is_here(settled: Settled, run: RunDir, parts: Assembly, console: Console, more: str) -> None:
    """Note the environment; say what is special (`more`), and after a pass at the longest shapes how long all takes."""
    config, on_gpu = settled.config, settled.device.type == "cuda"
    problems = parts.problems
    unread = note_on(config.policy.model, [*problems.train, *problems.validation, *problems.test])
    of_plan = lowered(config, settled.planned), without_graphs(config, settled.planned)
    for note in filter(None, (*of_plan, more, *problems.notes, unread)):
        say(console, note, style="yellow")
    gpu = torch.cuda.get_device_name(settled.device) if on_gpu else None
    run.write_json("environment.json", environment(torch.get_num_threads(), gpu))
    pace = rehearse(config, parts.trainer.sampler, parts.trainer.updater, settled.planned.plan.optimizer)
    held_out = HeldOut(len(problems.validation), len(problems.test))
    say(console, f"Dry pass: {expected(config, parts.sampler.units.rollouts_alive, pace, held_out)}", style="dim")
    if on_gpu and (spare := room_left(config, settled.planned, gib_of(settled.device), pace)):
        say(console, spare, style="yellow")


@contextmanager
def cleaned_up(run: RunDir, request: Request) -> Iterator[None]:
    """Where the session ends early, the folder says so if anything of worth is in it; a new one without goes.

    Raises MemoryBudgetError for an out-of-memory of the device; a DivergedError names the newest sound checkpoint.
    """
    try:
        yield
    except BaseException as error:  # Ctrl-C as well
        scored = isinstance(error, (MemoryBudgetError, KeyboardInterrupt)) and run.read(EVAL)  # takes minutes
        if run.checkpoints() or run.read(METRICS) or scored:
            step = max([0, *(record["step"] for record in run.read(METRICS))])
            with suppress(OSError):  # the disk may be full
                run.status(step=step, state="failed", steps=request.config.steps)
        elif not request.resume:
            run.discard()  # nothing is in it yet, and the mended command should find the place free
        if is_out_of_memory(error):  # the loop's own are MemoryBudgetErrors
            raise MemoryBudgetError(how_to_begin(error)) from None
        if isinstance(error, DivergedError):
            raise DivergedError(f"{error} {newest_sound(run)}") from None
        raise


@contextmanager
def run_of(request: Request, ranks: Ranks) -> Iterator[RunDir]:
    """The run's folder. Ranks but the first work in a copy that is thrown away: there is one writer.

    Raises as `start_run`; where the first rank does, the launcher ends the others.
    """
    if ranks.is_first:
        with start_run(request) as run:
            ranks.wait()  # the others may copy what a resumed run has
            ranks.wait()  # they have
            yield run
        return
    ranks.wait()
    with TemporaryDirectory(prefix="expo-lite-") as folder:
        copy = Path(folder) / "run"
        if request.resume:
            if not folder_of(request).is_dir():
                raise CheckpointError(
                    f"{folder_of(request)}: a resumed run's folder is needed on every machine; copy it"
                )
            shutil.copytree(folder_of(request), copy, ignore=shutil.ignore_patterns(".lock"))
        ranks.wait()
        config = replaced(request.config, {"run": str(copy)})
        with start_run(replace(request, config=config)) as run:
            yield run
