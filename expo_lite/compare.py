"""Train several methods with several seeds and report on all: `python -m expo_lite.compare --preset tiny`.

docs/results.md holds a report; docs/compare.md says what is done.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from expo_lite import entry
from expo_lite.config import Config
from expo_lite.config_reader import read_request, require_a_model
from expo_lite.errors import ConfigError
from expo_lite.flags import Parser
from expo_lite.memory.budget import budgeted_plan
from expo_lite.memory.shapes import find_shape
from expo_lite.memory.speed import budget_of, cards, forecast, in_words, named_card, pace_of
from expo_lite.methods import METHODS

PROG = "python -m expo_lite.compare"
REFUSED = ("--run", "--seed", "--optimizer.learning-rate", "--resume", "--steps")
RATE_FACTORS = (0.2, 0.4, 1.0, 2.0)


def main(argv: list[str] | None = None) -> int:
    """Compare as the command line says and return the exit status."""
    return entry.run(lambda: _compare(sys.argv[1:] if argv is None else argv))


def _compare(argv: list[str]) -> int:
    given, settings = _parser().parse_known_args(argv)
    require_a_model(settings)
    config = read_request([word for word in settings if word != "--dry-run"], PROG).config
    check(given, settings, config)
    rates = sorted(set(given.learning_rates or (factor * config.optimizer.learning_rate for factor in RATE_FACTORS)))
    console = Console()
    console.print(cost(given, rates, config), highlight=False, soft_wrap=True)
    if "--dry-run" in settings:
        return 0
    from expo_lite.comparing.study import Study  # late: --help and mistakes are answered without loading torch

    Study(given, rates, tuple(settings), config, console).to_the_end()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROG,
        usage="%(prog)s [--preset NAME] [--methods NAME ...] [--seeds N ...] [--ablations] [--to DIR] "
        "[--SETTING VALUE ...]",
        description="Train several methods with several seeds on the same problems, and write one report. "
        "Interrupted, the same command goes on where it stopped.",
        epilog=f"Methods: {', '.join(f'{name} ({method.title})' for name, method in METHODS.items())}. "
        "Every setting of a run can be given; python -m expo_lite.train --help lists them.",
        allow_abbrev=False,
    )
    default = ["grpo", "expert", "expo", "dpo-offline", "dpo-online"]
    parser.add_argument("--methods", nargs="+", default=default, metavar="NAME", help="(%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="(%(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each training (the preset's)")
    parser.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        metavar="RATE",
        help="each method is trained with all of them and the first seed, and takes the one with the best validation "
        f"pass@1 (the preset's times {', '.join(map(str, RATE_FACTORS))})",
    )
    parser.add_argument("--ablations", action="store_true", help="also change one setting of ExP-GRPO at a time")
    parser.add_argument("--problems", type=int, default=256, metavar="N", help="test problems per level (%(default)s)")
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="answers per problem (%(default)s)")
    parser.add_argument("--k", type=int, default=4, metavar="K", help="the k of pass@k beside 1 (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time (%(default)s)")
    parser.add_argument("--card", metavar="NAME", help=f"say what it costs on one of these cards: {cards()}")
    parser.add_argument("--to", type=Path, default=Path("runs/compare"), metavar="DIR", help="(%(default)s)")
    return parser


def check(given: argparse.Namespace, settings: list[str], config: Config) -> None:
    """Raises ConfigError for what cannot be compared."""
    for name in given.methods:
        if name not in METHODS:
            raise ConfigError(f"--methods: there is no {name!r} (available: {', '.join(METHODS)})")
    own = {name for method in METHODS.values() for name in method.settings}
    for word in settings:
        flag = word.partition("=")[0].replace("_", "-")
        if flag in REFUSED or flag.removeprefix("--") in own:
            raise ConfigError(f"{flag}: leave it out; the comparison sets it")
    numbers = {"problems": given.problems, "samples": given.samples, "k": given.k, "jobs": given.jobs}
    for name, value in {**numbers, "steps": given.steps or 1}.items():
        if value < 1:
            raise ConfigError(f"--{name}: should be at least 1 (got {value})")
    if given.k > given.samples:
        raise ConfigError(f"--k: pass@{given.k} needs at least {given.k} samples per problem (got {given.samples})")
    if any(rate <= 0 for rate in given.learning_rates or ()):
        raise ConfigError("--learning-rates: should be greater than 0")


def cost(given: argparse.Namespace, rates: list[float], config: Config) -> str:
    """How many trainings there are, and what they cost on the named card."""
    from expo_lite.comparing.variants import ablations

    seeds, searched = len(set(given.seeds)), len(given.methods) * (len(rates) - 1)
    trainings = len(given.methods) * seeds + searched + (len(ablations()) * seeds if given.ablations else 0)
    steps = given.steps or config.steps
    said = (
        f"{trainings} trainings of {steps} steps: {len(given.methods)} methods with {seeds} seeds"
        + (f" and {searched} more to find learning rates" if searched else "")
        + (f", {len(ablations())} ablations" if given.ablations else "")
        + "; then as many steps as give each method the same number of generated tokens."
    )
    if not given.card:
        return said
    card = named_card(given.card)
    planned = budgeted_plan(config, find_shape(config.policy.model), budget_of(config, card), on_gpu=True)
    seconds = steps * forecast(config, planned, pace_of(planned, card)).step
    return (
        f"{said} On a {card} one training takes about {in_words(seconds)}, all of them "
        f"{in_words(trainings * seconds)} without validation and tests; an estimate that may be off by a factor of two."
    )


if __name__ == "__main__":
    sys.exit(main())
