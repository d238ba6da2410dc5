"""Make a finished run's adapter a folder to share and to load elsewhere: `expo-lite export RUN --to DIR`.

--format merged makes it a whole model in the base's 16 bit, --format gguf one file for llama.cpp. docs/export.md says
how to load each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from expo_lite.config import process_setup
from expo_lite.config.flags import Parser
from expo_lite.config.hub import offline_if_unreachable
from expo_lite.config.versions import require_tested
from expo_lite.core.errors import CheckpointError, ConfigError
from expo_lite.runs.export import gguf
from expo_lite.runs.files import size_in_words
from expo_lite.runs.folder import RunDir

FORMATS = ("adapter", "merged", "gguf")


@process_setup.command
def main(argv: list[str]) -> None:
    """Export as the command line says."""
    given = _parser().parse_args(argv)
    if given.private and not given.push_to_hub:
        raise ConfigError("--private: goes with --push-to-hub")
    if given.llama_cpp and given.format != "gguf":
        raise ConfigError("--llama-cpp: goes with --format gguf")
    to = free_place(given.to)
    run = finished(RunDir(given.run))
    console = Console(highlight=False, soft_wrap=True)
    converter = gguf.find_converter(given.llama_cpp) if given.format == "gguf" else None
    require_tested()
    from expo_lite.runs.export import folders, upload  # late: --help and mistakes are answered without loading torch
    from expo_lite.runs.export.finished import read_finished

    if given.push_to_hub:
        upload.refuse_unready(given.push_to_hub)
    read = read_finished(run, given.unchecked)
    offline_if_unreachable([read.config.policy.model])
    if given.format == "adapter":
        folders.export_adapter(read, to)
    else:
        with console.status("Merging ...") as status:

            def told(done: int, total: int) -> None:
                part = f"Merging: {size_in_words(done)} of {size_in_words(total)}"
                status.update(part if done < total else "Writing ...")

            if converter:
                folders.export_gguf(read, to, converter, told)
            else:
                folders.export_merged(read, to, told)
    console.print("\n".join(listing(to)), markup=False)
    if given.push_to_hub:
        console.print(f"On the Hub: {upload.push(to, given.push_to_hub, given.private)}", markup=False)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="expo-lite export",
        description="Make a finished run's adapter a folder to share and to load elsewhere, with a model card.",
        epilog="How to load each form: docs/export.md",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a finished run's folder, such as runs/tiny-expo-seed0")
    parser.add_argument("--to", metavar="DIR", required=True, help="the folder to make; it must not hold anything yet")
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0],
        help="the adapter alone (as it is without this); merged: a whole model, in the type that the base is in; gguf: "
        "that as one file for llama.cpp, which must be there",
    )  # fmt: skip
    parser.add_argument(
        "--merged", dest="format", action="store_const", const="merged", help="the same as --format merged"
    )
    parser.add_argument(
        "--llama-cpp", metavar="PATH", help=f"a checkout of llama.cpp, for its {gguf.SCRIPT}; else ${gguf.VARIABLE}"
    )
    parser.add_argument("--push-to-hub", metavar="NAME", help="upload it too, into a new repository such as me/mine")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    parser.add_argument(
        "--unchecked", action="store_true", help="export a run that is too old to have noted its adapter's digest"
    )
    return parser


def free_place(to: str) -> Path:
    """The folder to make. Raises ConfigError where something is in it already."""
    path = Path(to).expanduser().absolute()
    if path.is_dir() and not any(path.iterdir()):
        return path
    if path.exists():
        raise ConfigError(f"--to: {path} already exists; choose another folder")
    return path


def finished(run: RunDir) -> RunDir:
    """The run, if it has reached its last step. Raises CheckpointError where it has not, with how to get there."""
    if not run.config.is_file():
        raise CheckpointError(f"{run.path} holds no run (no config.yaml); name a run's folder")
    status = run.read_status()
    step, state = status.get("step", 0), status.get("state", "not begun")
    if state != "finished":
        again = f"python -m expo_lite.train --resume --run {run.path}"
        raise CheckpointError(
            f"{run.path} is not finished ({state}, step {step} of {status.get('steps', '?')}), so its adapter has not "
            f"been tested, and a better one may follow. To go on: {again}\n"
            f"To end it where it stands, and test what is best so far: {again} --steps {step}"
        )
    return run


def listing(folder: Path) -> list[str]:
    """What was written, with sizes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{size_in_words(path.stat().st_size):>10}  {path.relative_to(folder)}" for path in paths]
    return [f"Written to {folder}:", *lines, f"{size_in_words(sum(path.stat().st_size for path in paths)):>10}  in all"]
