"""Score the base and an adapter on held-out problems: `expo-lite evaluate runs/mine`.

TARGET is a run's folder, an adapter or a model. docs/evaluate.md says what is measured and written.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from expo_lite.config import process_setup
from expo_lite.config.flags import Parser, read_flags
from expo_lite.config.hub import hub_names, offline_if_unreachable
from expo_lite.config.read import layers_of, read_config, resolve
from expo_lite.config.settings import Config
from expo_lite.config.versions import require_tested
from expo_lite.config.yaml_file import Layer
from expo_lite.core.errors import ConfigError
from expo_lite.model.unsloth import import_early
from expo_lite.runs.target import Target, find_target

PROG = "expo-lite evaluate"
# flags of a run without a meaning here, with what to do instead
REFUSED = {
    "--resume": "an interrupted evaluation goes on by itself",
    "--dry-run": "nothing is trained here",
    "--run": "--to names the folder of the results",
    "--evaluation.samples": "give --samples",
    "--data.test-problems": "give --problems",
    "--policy.adapter": "name the adapter as TARGET",
}


@dataclass(frozen=True)
class EvaluateRequest:
    """A read command line: `ks` ascending, `config` with samples, temperature and number of problems in place."""

    target: Target
    config: Config
    models: list[str]
    ks: list[int]
    folder: Path


@process_setup.command
def main(argv: list[str]) -> int:
    """Evaluate as the command line says."""
    asked = read_asked(argv)
    require_tested()
    import_early(asked.config.policy)
    from expo_lite.studies.evaluate import scoring  # late: --help and mistakes are answered without loading torch

    trained = read_config(asked.target.run.config).data if asked.target.run else None
    return scoring.score(asked.config, trained, asked.models, asked.ks, asked.folder, Console())


def read_asked(argv: list[str]) -> EvaluateRequest:
    """Read the command line. Raises ConfigError for whatever of it cannot be done together."""
    given, settings = _read(argv)
    ks, samples = checked_ks(given.k, given.samples)
    refuse_flags(settings)
    offline_if_unreachable([given.target])
    target = find_target(given.target)
    refuse_for(target, given, settings)
    own = {"data.test_problems": given.problems, "rollout.temperature": given.temperature}
    own = {name: value for name, value in own.items() if value is not None} | {"evaluation.samples": samples}
    files = {"preset": given.preset, "config": given.config}
    sources = replace(target.sources, **{name: file for name, file in files.items() if file is not None})
    config = resolve([*layers_of(sources), read_flags(settings, PROG).layer, Layer.of(own)])
    offline_if_unreachable(hub_names(config))
    models = ["base", "adapter"] if target.has_adapter else ["base"]
    if given.only and given.only not in models:
        raise ConfigError(f"--only: {given.target} has no adapter")
    models = [given.only] if given.only else models
    return EvaluateRequest(target, config, models, ks, Path(given.to).expanduser() if given.to else target.results)


def checked_ks(k: Sequence[int], samples: int | None) -> tuple[list[int], int]:
    """Each k once, ascending, and the completions a problem: the largest k, if none are given. Raises ConfigError."""
    ks = sorted(set(k))
    samples = max(ks) if samples is None else samples
    if ks[0] < 1:
        raise ConfigError(f"--k: should be 1 or more (got {ks[0]})")
    if samples < ks[-1]:
        raise ConfigError(f"--samples: pass@{ks[-1]} needs at least {ks[-1]} samples per problem (got {samples})")
    return ks, samples


def _read(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line's own flags, and the rest, which are settings."""
    parser = _parser()
    if argv and argv[0].startswith("-") and argv[0] not in ("-h", "--help"):
        raise ConfigError(f"TARGET: comes first, a run, an adapter or a model, such as runs/mine (got {argv[0]})")
    return parser.parse_known_args(argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROG,
        usage="%(prog)s TARGET [--k K ...] [--samples N] [--problems N] [--temperature T] [--to DIR] "
        "[--preset NAME | --config FILE] [--SETTING VALUE ...]",
        description="Score the base and an adapter on held-out problems: pass@k by level, with intervals.",
        epilog="Every setting of a run can be given, such as --data.source problems.jsonl; "
        "python -m expo_lite.train --help lists them.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a run's folder (base and adapter), an adapter (folder or Hub id; base and adapter) or a model "
        '("tiny", folder or Hub id; base only)',
    )
    parser.add_argument("--k", type=int, nargs="+", default=[1, 4], metavar="K", help="the k of pass@k (1 4)")
    parser.add_argument("--samples", type=int, metavar="N", help="completions per problem (the largest k)")
    parser.add_argument("--problems", type=int, metavar="N", help="test problems per level (data.test_problems)")
    parser.add_argument("--temperature", type=float, metavar="T", help="of sampling (rollout.temperature)")
    parser.add_argument("--only", choices=["base", "adapter"], help="score one of the two")
    parser.add_argument("--to", metavar="DIR", help="folder of the results (RUN/evaluation, or runs/evaluation-NAME)")
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument("--preset", metavar="NAME", help="settings for a TARGET that is no run")
    settings.add_argument("--config", metavar="FILE", help="settings for a TARGET that is no run")
    return parser


def refuse_flags(settings: list[str]) -> None:
    """Raises ConfigError for flags of a run that mean nothing here."""
    for flag in named(settings):
        if flag in REFUSED:
            raise ConfigError(f"{flag}: leave it out; {REFUSED[flag]}")


def refuse_for(target: Target, given: argparse.Namespace, settings: list[str]) -> None:
    """Raises ConfigError for flags that do not go with this target."""
    if target.run is not None and (given.preset or given.config):
        flag = "--preset" if given.preset else "--config"
        raise ConfigError(f"{flag}: leave it out; {given.target} has the settings of its run, in config.yaml")
    if "--policy.model" in named(settings) and not (target.has_adapter and target.run is None):
        raise ConfigError(f"--policy.model: leave it out; {given.target} says which model it is")
    data = {"--data.source", "--data.test-source"} & named(settings)
    if not (target.known_data or given.preset or given.config or data):
        raise ConfigError(
            f"data.source: name the problems that {given.target} should answer, for instance "
            "--data.source openai/gsm8k or --data.test-source problems.jsonl"
        )


def named(settings: list[str]) -> set[str]:
    """The flags among words of a command line."""
    return {word.partition("=")[0].replace("_", "-") for word in settings if word.startswith("--")}
