"""Say before anything is loaded whether a run fits: `python -m expo_lite.plan --preset 24gb`.

`--model ID` plans for another model, `--card NAME` adds a forecast of the hours. It needs neither a GPU nor
weights, and for the models in `expo_lite.memory.shapes` no network.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.table import Table

from expo_lite import entry
from expo_lite.config_reader import read_request
from expo_lite.errors import ConfigError
from expo_lite.memory.budget import BudgetedPlan, budgeted_plan, require_fit
from expo_lite.memory.plan import GIB
from expo_lite.memory.shapes import find_shape
from expo_lite.memory.speed import CARDS, forecast

PARTS = ("weights", "adapters", "optimizer", "kv_cache", "sampling", "activations", "logprobs")
IN_GENERATION, IN_TRAINING = {"kv_cache", "sampling"}, {"activations", "logprobs"}


def main(argv: list[str] | None = None) -> int:
    """Print the plan; exit status 2 if the run does not fit."""
    return entry.run(lambda: _plan(sys.argv[1:] if argv is None else argv))


def _plan(argv: list[str]) -> int:
    own = argparse.ArgumentParser(prog="python -m expo_lite.plan", add_help=False, allow_abbrev=False)
    own.add_argument("--model")
    own.add_argument("--card")
    given, rest = own.parse_known_args(argv)
    config = read_request([*rest, *(["--policy.model", given.model] if given.model else [])], own.prog).config
    if given.card and given.card not in CARDS:
        raise ConfigError(f"--card: there is no {given.card!r} (available: {', '.join(CARDS)})")
    on_gpu = config.policy.device != "cpu"
    budget = config.memory.budget_gib
    if budget is None:
        raise ConfigError("memory.budget_gib: say how many GiB to plan for, for instance --memory.budget-gib 24")
    planned = budgeted_plan(config, find_shape(config.policy.model), budget, on_gpu)
    console = Console()
    console.print(plan_table(planned, budget))
    console.print(f"{planned.units}.", highlight=False, soft_wrap=True)
    if given.card:
        seconds = forecast(config, planned, given.card)
        hours = config.steps * seconds.step / 3600
        console.print(
            f"On a {given.card}, by assumed efficiency (expect a factor of two): {seconds.generate:.0f} s generating "
            f"and {seconds.train:.0f} s training per step, {hours:.1f} h for {config.steps} steps.",
            highlight=False,
            soft_wrap=True,
        )
    require_fit(config, planned, budget)
    console.print("It fits.")
    return 0


def plan_table(planned: BudgetedPlan, budget_gib: float) -> Table:
    """GiB by purpose, in generation and in training."""
    where = "GPU" if planned.workload.on_gpu else "CPU"
    title = f"{planned.shape.name} on a {where} with {budget_gib:g} GiB, {planned.limit / GIB:.1f} of them usable"
    table = Table(title=title, min_width=len(title))
    for name in ("GiB", "generation", "training"):
        table.add_column(name, justify="left" if name == "GiB" else "right")
    for part in PARTS:
        size = f"{getattr(planned.plan, part) / GIB:.2f}"
        table.add_row(
            part.replace("_", " "), "" if part in IN_TRAINING else size, "" if part in IN_GENERATION else size
        )
    generation, training = planned.plan.generation_peak, planned.plan.training_peak
    table.add_section()
    table.add_row("peak, with context and fragmentation", f"{generation / GIB:.2f}", f"{training / GIB:.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
