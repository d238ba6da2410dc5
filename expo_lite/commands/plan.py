"""Say before anything is loaded whether a run fits: `expo-lite plan --preset 24gb`.

`--model ID` plans for another model, `--card NAME` adds a forecast of the hours, part by part. It needs neither a GPU
nor weights, and for the models in `expo_lite.memory.shapes` no network.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from expo_lite.config import process_setup
from expo_lite.config.flags import Parser
from expo_lite.config.hub import offline_if_unreachable
from expo_lite.config.read import read_request, require_a_model
from expo_lite.config.settings import Config
from expo_lite.core.tables import TextTable
from expo_lite.core.terminal import say
from expo_lite.memory.budget import BudgetedPlan, lowered, plan_on, without_graphs
from expo_lite.memory.cards import CARDS, cards, named_card, place_of
from expo_lite.memory.forecast import Forecast, assumptions, in_words, within
from expo_lite.memory.plan import GIB
from expo_lite.memory.remedies import require_fit
from expo_lite.memory.shapes import KNOWN
from expo_lite.runs.on_card import forecast_on, room_left

LABELS = {"kv_cache": "KV cache", "decoding": "prompts and sampling", "logprobs": "log-probabilities"}


@process_setup.command
def main(argv: list[str]) -> int:
    """Print the plan; exit status 2 if the run does not fit."""
    own = _parser()
    given, settings = own.parse_known_args(argv)
    for name, value in {"--preset": given.preset, "--config": given.config, "--policy.model": given.model}.items():
        settings += [name, value] if value else []
    require_a_model(settings)
    config = read_request(settings, own.prog).config
    if config.policy.model not in KNOWN:
        offline_if_unreachable([config.policy.model])
    card = named_card(given.card) if given.card else None
    planned = plan_on(config, place_of(config, card))
    console = Console()
    console.print(plan_table(planned))
    for line in filter(None, (lowered(config, planned), without_graphs(config, planned), f"{planned.units}.")):
        say(console, line)
    require_fit(config, planned)
    if card:
        _forecast(config, card, planned, console)
    console.print("It fits.")
    return 0


def _forecast(config: Config, card: str, planned: BudgetedPlan, console: Console) -> None:
    found = forecast_on(config, card, planned.shape)
    console.print(parts_table(found.forecast, card))
    total = f"About {in_words(found.forecast.total)} for {config.steps} steps: {within()}."
    spare = room_left(config, planned, CARDS[card].gib, found.pace)
    for line in filter(None, (total, assumptions(config), spare)):
        say(console, line)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="expo-lite plan",
        usage="%(prog)s [--preset NAME] [--config FILE] [--model ID] [--card NAME] [--SETTING VALUE ...]",
        description="Say whether a run fits, and what it needs, before anything is loaded.",
        epilog="Every setting of a run can be given, such as --memory.budget-gib 12 or --rollout.max-new-tokens 512; "
        "python -m expo_lite.train --help lists them.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", metavar="NAME", help="plan for a preset; `expo-lite presets` lists them")
    parser.add_argument("--config", metavar="FILE", help="plan for a YAML file of settings")
    parser.add_argument("--model", metavar="ID", help="plan for another model; short for --policy.model")
    parser.add_argument("--card", metavar="NAME", help=f"forecast the hours on one of these cards: {cards()}")
    return parser


def plan_table(planned: BudgetedPlan) -> TextTable:
    """GiB by purpose, in generation and in training."""
    where, plan = "GPU" if planned.workload.on_gpu else "CPU", planned.plan
    usable = f"{planned.budget_gib:g} GiB, {planned.limit / GIB:.1f} of them usable"
    title = f"{planned.shape.name} on a {where} with {usable}"
    both = plan.generation_parts, plan.training_parts
    parts = both[0] | both[1]
    rows = [[LABELS.get(part, part.replace("_", " ")), *(_gib(sizes.get(part)) for sizes in both)] for part in parts]
    peak = ["peak, with context and fragmentation", _gib(plan.generation_peak), _gib(plan.training_peak)]
    return TextTable(title, ["GiB", "generation", "training"], [*rows, peak], words=(0,), ruled=(len(rows),))


def _gib(size: float | None) -> str:
    return "" if size is None else f"{size / GIB:.2f}"


def parts_table(found: Forecast, card: str) -> TextTable:
    """Time by part of the run, and how each was counted."""
    rows = [[part.name, in_words(part.seconds), part.how] for part in found.parts]
    whole = ["the whole run", in_words(found.total), ""]
    heads = ["part", "time", "counted as"]
    return TextTable(f"Time on one {card}", heads, [*rows, whole], words=(0, 2), ruled=(len(rows),))
