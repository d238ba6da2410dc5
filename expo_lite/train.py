"""Train a model: `python -m expo_lite.train --preset tiny`, or `expo-lite train`; `--help` lists every setting."""

from __future__ import annotations

import sys

from expo_lite import entry
from expo_lite.config_reader import dump_yaml, read_request
from expo_lite.errors import ConfigError
from expo_lite.unsloth_backend import import_early

NAMES_A_MODEL = ("--preset", "--config", "--policy.model", "--resume")


def main(argv: list[str] | None = None) -> int:
    """Train as the command line says and return the exit status."""
    return entry.run(lambda: _train(sys.argv[1:] if argv is None else argv))


def _train(argv: list[str]) -> int | None:
    request = read_request(argv)
    if request.dry_run:
        print(dump_yaml(request.config), end="")
        return 0
    if not any(token.split("=")[0] in NAMES_A_MODEL for token in argv):
        raise ConfigError("preset: name one; `--preset tiny` runs on a CPU, `expo-lite presets` lists all")
    import_early(request.config.policy)
    from expo_lite import loop  # late: --help and --dry-run answer without loading torch

    return loop.train(request)


if __name__ == "__main__":
    sys.exit(main())
