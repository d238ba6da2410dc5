"""Train a model: `python -m expo_lite.train --preset tiny`, or `expo-lite train`; `--help` lists every setting."""

from __future__ import annotations

import textwrap

from expo_lite.config import process_setup
from expo_lite.config.read import dump_yaml, read_request, require_a_model
from expo_lite.config.settings import Config
from expo_lite.config.versions import require_tested
from expo_lite.memory.budget import plan_on
from expo_lite.memory.cards import place_of
from expo_lite.memory.shapes import is_here
from expo_lite.model.unsloth import import_early


@process_setup.command
def main(argv: list[str]) -> int | None:
    """Train as the command line says."""
    request = read_request(argv)
    if request.dry_run:
        print(dump_yaml(request.config) + plan_comment(request.config), end="")
        return 0
    require_a_model(argv)
    require_tested()
    import_early(request.config.policy)
    from expo_lite.runs import session  # late: --help and --dry-run answer without loading torch

    return session.train(request)


def plan_comment(config: Config) -> str:
    """The memory plan as a comment in YAML; nothing where it takes the network, or a GPU to know the budget."""
    place = place_of(config)
    if not is_here(config.policy.model) or (place.on_gpu and config.memory.budget_gib is None):
        return ""
    planned = plan_on(config, place)
    said = f"memory plan: {'it fits' if planned.fits else 'it does not fit'}; {planned}"
    return textwrap.fill(said, 79, initial_indent="# ", subsequent_indent="#   ") + "\n"
