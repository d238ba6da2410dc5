"""One session of a run: checks before anything is loaded, its folder and parts, and its end if it cannot go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from expo_lite.config.hub import hub_names, offline_if_unreachable
from expo_lite.config.methods import require_an_initial_policy
from expo_lite.config.read import Request
from expo_lite.core.errors import CheckpointError, ConfigError, MemoryBudgetError
from expo_lite.grading.reward_function import Function, load_function
from expo_lite.memory.budget import lowered
from expo_lite.memory.cap import gib_of, plan_here
from expo_lite.memory.forecast import HeldOut
from expo_lite.memory.halving import how_to_begin, is_out_of_memory
from expo_lite.memory.remedies import require_fit
from expo_lite.model.policy import resolve_device
from expo_lite.model.ranks import Ranks
from expo_lite.runs.assemble import assemble
from expo_lite.runs.display import say
from expo_lite.runs.environment import environment
from expo_lite.runs.folder import EVAL, METRICS, RunDir
from expo_lite.runs.loop import Loop
from expo_lite.runs.on_card import room_left
from expo_lite.runs.open import folder_of, start_run
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
    require_an_initial_policy(request.config)
    function = function or load_function(request.config.reward.function)  # its mistakes before anything is loaded
    if ranks.count > 1 and request.config.policy.backend == "unsloth":
        raise ConfigError("policy.backend: unsloth is for one process (got several); set transformers")
    device = resolve_device(request.config.policy.device)  # a missing GPU should be said before a folder is made
    offline_if_unreachable(hub_names(request.config))
    planned, budget = plan_here(request.config, device)
    require_fit(request.config, planned, budget)
    with run_of(request, ranks) as run:
        say(console, f"Memory plan: {planned}.", style="dim")
        try:
            with assemble(request.config, ranks, function) as parts:
                spare = room_left(request.config, planned, gib_of(device)) if device.type == "cuda" else ""
                for note in filter(None, (lowered(request.config, budget), spare, *parts.problems.notes)):
                    say(console, note, style="yellow")
                gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
                run.write_json("environment.json", environment(torch.get_num_threads(), gpu))
                pace = rehearse(request.config, parts.trainer.sampler, parts.trainer.updater, planned.plan.optimizer)
                held_out = HeldOut(len(parts.problems.validation), len(parts.problems.test))
                pace_in_words = expected(request.config, parts.sampler.units.rollouts_alive, pace, held_out)
                say(console, f"Dry pass: {pace_in_words}", style="dim")
                return Loop(request.config, run, parts, console, show).to_the_end()
        except BaseException as error:  # Ctrl-C as well
            scored = isinstance(error, (MemoryBudgetError, KeyboardInterrupt)) and run.read(EVAL)  # takes minutes
            if run.checkpoints() or run.read(METRICS) or scored:
                step = max([0, *(record["step"] for record in run.read(METRICS))])
                run.status(step=step, state="failed", steps=request.config.steps)
            elif not request.resume:
                run.discard()  # nothing is in it yet, and the mended command should find the place free
            if is_out_of_memory(error):  # the loop's own are MemoryBudgetErrors
                raise MemoryBudgetError(how_to_begin(error)) from None
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
        config = request.config.model_copy(update={"run": str(copy)})
        with start_run(replace(request, config=config)) as run:
            yield run
