"""Train a model: `python -m expo_lite.train --preset tiny`, or `expo-lite train`; `--help` lists every setting."""

from __future__ import annotations

import sys

from expo_lite import entry
from expo_lite.config import Config
from expo_lite.config_reader import dump_yaml, read_request, require_a_model
from expo_lite.memory.budget import budgeted_plan
from expo_lite.memory.shapes import find_shape, is_here
from expo_lite.unsloth_backend import import_early


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit status."""
    return entry.run(lambda: _train(sys.argv[1:] if argv is None else argv))


def _train(argv: list[str]) -> int | None:
    request = read_request(argv)
    if request.dry_run:
        print(dump_yaml(request.config) + plan_comment(request.config), end="")
        return 0
    require_a_model(argv)
    import_early(request.config.policy)
    from expo_lite import session  # late: --help and --dry-run answer without loading torch

    return session.train(request)


def plan_comment(config: Config) -> str:
    """The memory plan as a comment in YAML; nothing where it takes the network, or a GPU to know the budget."""
    budget, on_gpu = config.memory.budget_gib, config.policy.device != "cpu"
    if budget is None or not is_here(config.policy.model):
        return ""
    planned = budgeted_plan(config, find_shape(config.policy.model), budget, on_gpu)
    return f"# memory plan: {'it fits' if planned.fits else 'it does not fit'}; {planned}\n"


if __name__ == "__main__":
    sys.exit(main())
