"""Train several methods with several seeds and report on all: `expo-lite study --preset tiny`.

docs/study.md says what is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from expo_lite.config import process_setup
from expo_lite.config.dotted import replaced
from expo_lite.config.flags import Parser
from expo_lite.config.methods import METHODS
from expo_lite.config.read import read_request, require_a_model
from expo_lite.config.settings import Config
from expo_lite.config.versions import require_tested
from expo_lite.core.errors import ConfigError
from expo_lite.core.terminal import say
from expo_lite.memory.cards import cards, named_card
from expo_lite.memory.forecast import in_words, within
from expo_lite.runs.on_card import answering_on, forecast_on
from expo_lite.studies.methods.request import StudyRequest
from expo_lite.studies.methods.variants import Variant

PROG = "expo-lite study"
DEFAULT_METHODS = ["grpo", "expert", "expo", "dpo-offline", "dpo-online"]
RATE_FACTORS = (0.2, 0.4, 1.0, 2.0)
# flags of a run that the comparison sets itself, with what to do instead
REFUSED = {
    "--run": "--to names the folder of all trainings",
    "--seed": "give --seeds",
    "--optimizer.learning-rate": "give --learning-rates",
    "--resume": "an interrupted comparison goes on by itself",
    **{f"--{name}": "give --methods" for method in METHODS.values() for name in method.settings},
}


@process_setup.command
def main(argv: list[str]) -> int:
    """Train and report as the command line says."""
    given, settings = _parser().parse_known_args(argv)
    asked = read_asked(argv, given, settings)
    console = Console()
    say(console, cost(asked, given.card))
    if given.dry_run:
        return 0
    require_tested()
    from expo_lite.studies.methods.study import Study  # late: --help and mistakes are answered without loading torch

    try:
        with Study(asked, console) as study:
            study.to_the_end()
    except KeyboardInterrupt:
        say(console, f"Stopped; nothing in {asked.to} is lost, and the same command goes on from there.")
        return process_setup.INTERRUPTED
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
    listed = ", ".join(map(str, RATE_FACTORS))
    add = parser.add_argument
    add("--methods", nargs="+", default=DEFAULT_METHODS, metavar="NAME", help=f"({' '.join(DEFAULT_METHODS)})")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="(0 1 2 3 4)")
    add("--steps", type=int, metavar="N", help="steps of each training (the preset's)")
    add(
        "--learning-rates",
        type=float,
        nargs="+",
        metavar="RATE",
        help="each method is trained with all of them and the first seed, and takes the one with the best validation "
        f"pass@1 (the preset's times {listed})",
    )
    add("--ablations", action="store_true", help="also change one setting of ExP-GRPO at a time")
    add("--problems", type=int, default=256, metavar="N", help="test problems per level (%(default)s)")
    add("--samples", type=int, default=16, metavar="N", help="answers per problem (%(default)s)")
    add("--k", type=int, default=4, metavar="K", help="the k of pass@k beside 1 (%(default)s)")
    add("--jobs", type=int, default=1, metavar="N", help="trainings at a time (%(default)s)")
    add("--card", metavar="NAME", help=f"say what it costs on one of these cards: {cards()}")
    add("--to", type=Path, default=Path("runs/study"), metavar="DIR", help="(%(default)s)")
    add("--dry-run", action="store_true", help="say how many trainings there are, and stop")
    return parser


def read_asked(argv: Sequence[str], given: argparse.Namespace, settings: list[str]) -> StudyRequest:
    """What the command line asks for. Raises ConfigError for what cannot be compared."""
    require_a_model(settings)
    refuse_flags(settings)
    check(given)
    config = read_request(settings, PROG).config
    rates = given.learning_rates or [factor * config.optimizer.learning_rate for factor in RATE_FACTORS]
    asked = StudyRequest(
        words=tuple(argv),
        methods=tuple(dict.fromkeys(given.methods)),
        seeds=tuple(sorted(set(given.seeds))),
        rates=tuple(sorted({float(f"{rate:g}") for rate in rates})),  # as folders are named
        steps=given.steps or config.steps,
        ablations=given.ablations,
        problems=given.problems,
        samples=given.samples,
        k=given.k,
        jobs=given.jobs,
        to=given.to.expanduser(),
        settings=tuple(settings),
        config=config,
    )
    for variant in _variants(asked):
        config_of(asked, variant)  # what one of them cannot be trained with is said now, not hours later
    return asked


def refuse_flags(settings: Iterable[str]) -> None:
    """Raises ConfigError for flags of a run that the comparison sets."""
    for word in settings:
        flag = word.partition("=")[0].replace("_", "-")
        if flag in REFUSED:
            raise ConfigError(f"{flag}: leave it out; {REFUSED[flag]}")


def check(given: argparse.Namespace) -> None:
    """Raises ConfigError for values that cannot be compared."""
    for name in given.methods:
        if name not in METHODS:
            raise ConfigError(f"--methods: there is no {name!r} (available: {', '.join(METHODS)})")
    for name in ("steps", "problems", "samples", "k", "jobs"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: should be at least 1 (got {value})")
    if min(given.seeds) < 0:
        raise ConfigError(f"--seeds: should be 0 or more (got {min(given.seeds)})")
    if given.k > given.samples:
        raise ConfigError(f"--k: pass@{given.k} needs at least {given.k} samples per problem (got {given.samples})")
    for rate in given.learning_rates or ():
        if not 0 < rate < float("inf"):
            raise ConfigError(f"--learning-rates: should be greater than 0 (got {rate:g})")


def _variants(asked: StudyRequest) -> list[Variant]:
    return [*asked.searched, *asked.changed]


def config_of(asked: StudyRequest, variant: Variant) -> Config:
    """What a variant is trained with. Raises ConfigError where it cannot be."""
    return replaced(asked.config, {**dict(variant.settings), "steps": asked.steps})


def cost(asked: StudyRequest, card: str | None) -> str:
    """How many trainings there are, and what they cost on the named card."""
    variants = _variants(asked)
    counts = [asked.trainings(variant) for variant in variants]
    more = len(asked.searched) * (len(asked.rates) - 1)
    said = (
        f"{sum(counts)} trainings of {asked.steps} steps: {len(asked.searched)} methods with {count_of(asked.seeds)}"
        + (f" and {more} more to find learning rates" if more else "")
        + (f", {len(asked.changed)} ablations" if asked.changed else "")
        + "; then as many steps as give each method the same number of generated tokens."
    )
    if not card:
        return said
    card = named_card(card)
    each = [forecast_on(config_of(asked, variant), card).forecast.total for variant in variants]
    total = sum(count * seconds for count, seconds in zip(counts, each, strict=True))
    shortest, longest = in_words(min(each)), in_words(max(each))
    one = longest if shortest == longest else f"{shortest} to {longest}"
    adapters = len(asked.seeds) * (len(asked.compared) + len(asked.changed))
    scores = (adapters + 1) * answering_on(asked.config, card, asked.problems, asked.samples)
    return (
        f"{said} On one {card} a training takes about {one}, all of them {in_words(total)}, and the scores of "
        f"{adapters} adapters and the base {in_words(scores)} more; {within()}. Further steps and their scores come on "
        "top."
    )


def count_of(seeds: Sequence[int]) -> str:
    """In words."""
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
