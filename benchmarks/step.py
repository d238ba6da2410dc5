"""One training step here beside TRL's GRPOTrainer, on a CPU: `python benchmarks/step.py --trl FOLDER`.

FOLDER is where `pip install --no-deps --target FOLDER trl==1.16.0` has put the TRL to compare with; without it the
installed one is taken (1.15.0 does not run on a CPU: its output layer needs Triton). Each side runs in a process of
its own, in turns, on the same prompts, group size, lengths and verifier; see benchmarks/step_case.py. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.step_case import MODELS, SIDES, Case, Measured, shape_of, source_of
from benchmarks.step_floor import Machine, Panel, draw, floor_seconds, measured_machine, prompt_tokens, weight_bytes
from expo_lite.config.model_files import SMOL, TINY
from expo_lite.model.policy import resolve_dtype

SMALL = {"prompts": 2, "group": 4, "tokens": 24, "micro_batch": 4}
WORK = {TINY: {}, SMOL: SMALL, "random-135m": SMALL, "random-152k": {**SMALL, "tokens": 32}}
"""Sizes of a step by model, where no flag gives them; those of the tiny model are its preset's."""
SWEPT = {"rollouts": (0.25, 0.5, 1, 2), "tokens": (0.25, 0.5, 1, 2), "failed": (0, 0.25, 0.5, 0.75, 1)}
"""What the picture varies: shares of the case's prompts, tokens and, for the failed groups, prompts."""
METHODS = {"grpo": "GRPO", "expo": "ExPO, all groups failed"}

Turn = dict[str, Measured]
"""What each side measured, one after another."""


class Result(NamedTuple):
    """A case, what was measured in each turn, and the counted floor of each method's seconds."""

    case: Case
    turns: list[Turn]
    floors: dict[str, float]


def run(case: Case, trl: Path | None = None) -> Measured:
    """Measure one case in a process of its own. Raises SystemExit with what it said if it fails."""
    threads = str(case.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    if case.side == "trl" and trl:
        environment["PYTHONPATH"] = os.pathsep.join([str(trl.resolve()), environment.get("PYTHONPATH", "")])
    program = Path(__file__).with_name("step_sides.py")
    command = [sys.executable, str(program), json.dumps(asdict(case)), str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["failed"])[-1]
        hint = " (TRL 1.15.0 needs Triton: see --trl)" if case.side == "trl" else ""
        raise SystemExit(f"{case.side} on {case.model}: {said}{hint}")
    measured = Measured(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{case.side} on {case.model}: {median(measured.seconds):.2f} s a step", file=sys.stderr, flush=True)
    return measured


def of_side(case: Case, side: str) -> Case:
    """The case for another side; in ExPO's every group fails."""
    return replace(case, side=side, failed=case.prompts if side == "expo" else 0)


def compare(case: Case, alternations: int, trl: Path | None) -> Result:
    """All sides in turns, so often."""
    shape, machine = shape_of(case.model), machine_of(case)
    found = [{side: run(of_side(case, side), trl) for side in SIDES} for _ in range(alternations)]
    prompt = prompt_tokens(case, found[0]["grpo"])
    return Result(case, found, {side: floor_seconds(of_side(case, side), shape, prompt, machine) for side in METHODS})


def machine_of(case: Case) -> Machine:
    """This machine's rates with the case's threads, number type and size of weights."""
    dtype = resolve_dtype(case.dtype, torch.device("cpu"))
    torch.set_num_threads(case.threads)
    machine = measured_machine(weight_bytes(shape_of(case.model), dtype.itemsize), dtype)
    print(f"{machine.operations / 1e9:.0f} GFLOP/s, {machine.bytes / 1e9:.1f} GB/s", file=sys.stderr)
    return machine


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the lowest and highest."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(found: Sequence[Turn], side: str, what: str) -> list[float]:
    """TRL's seconds a step by this side's, in each turn."""
    return [median(getattr(turn["trl"], what)) / median(getattr(turn[side], what)) for turn in found]


def mean_of(found: Sequence[Turn], side: str, what: str) -> float:
    """The median over the turns of a figure of one side."""

    def figure(measured: Measured) -> float:
        seconds, generating = median(measured.seconds), median(measured.generating)
        figures = {
            "seconds": seconds,
            "generated": measured.generated / generating,
            "trained": measured.trained / (seconds - generating),
            "working": measured.peak_mib - measured.loaded_mib,
        }
        return figures[what] if what in figures else getattr(measured, what)

    return median(figure(turn[side]) for turn in found)


def time_table(results: Sequence[Result]) -> str:
    """Markdown: seconds and tokens a second, TRL's GRPO before this project's."""
    lines = [
        "| model | method | TRL s | here s | floor s | TRL / here | of CPU s | generated tokens/s | trained tokens/s |",
        "|" + "---|" * 9,
    ]
    for case, found, floors in results:
        for side, method in METHODS.items():
            both = {
                name: [f"{mean_of(found, s, name):.{digits}f}" for s in ("trl", side)]
                for name, digits in (("seconds", 2), ("generated", 0), ("trained", 0))
            }
            cells = [f"{case.model}, {case.dtype}", method, *both["seconds"], f"{floors[side]:.2f}"]
            cells += [spread(ratios(found, side, what)) for what in ("seconds", "cpu_seconds")]
            cells += [" : ".join(both[name]) for name in ("generated", "trained")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def memory_table(results: Sequence[Result]) -> str:
    """Markdown: resident memory at its peak, and the time to the end of the first step."""
    lines = ["| model | side | peak MiB | above the loaded model MiB | model MiB | first step s |", "|" + "---|" * 6]
    for case, found, _ in results:
        for side in SIDES:
            figures = [mean_of(found, side, name) for name in ("peak_mib", "working", "model_mib")]
            first = [turn[side].first_step for turn in found]
            name = METHODS.get(side, "TRL's GRPO")
            cells = [f"{case.model}, {case.dtype}", name, *(f"{value:.0f}" for value in figures), spread(first, 1)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def settings_lines(results: Sequence[Result]) -> str:
    """What each side was told, and what it wrote and trained on in a step."""
    lines = []
    for case, found, _ in results:
        lines.append(f"* {case.model}, {case.prompts} x {case.group} rollouts, {case.threads} threads:")
        for side, measured in found[0].items():
            lines.append(
                f"  * {side}: {measured.generated:.0f} tokens generated, {measured.trained:.0f} trained on; "
                f"{measured.settings}"
            )
    return "\n".join(lines)


def sweep(case: Case, trl: Path | None) -> list[Panel]:
    """Seconds a step against rollouts, length and failed groups, with the counted floor."""
    shape, machine = shape_of(case.model), machine_of(case)
    panels = []
    for name, shares in SWEPT.items():
        by_side: dict[str, list[tuple[float, float]]] = {}
        of = case.tokens if name == "tokens" else case.prompts
        values = sorted({max(int(share > 0), round(share * of)) for share in shares})
        for value in values:
            changed = replace(case, **{"prompts" if name == "rollouts" else name: value})
            x = changed.rollouts if name == "rollouts" else value
            sides = [of_side(changed, side) for side in SIDES]
            if name == "failed":  # here one method does both; TRL's seconds do not depend on it
                sides = [*[of_side(changed, "trl")][: value == 0], replace(changed, side="expo")]
            for one in sides:
                measured = run(one, trl)
                by_side.setdefault(one.side, []).append((x, median(measured.seconds)))
                if one.side == ("expo" if name == "failed" else "grpo"):
                    least = floor_seconds(one, shape, prompt_tokens(one, measured), machine)
                    by_side.setdefault("floor", []).append((x, least))
        if name == "failed":
            by_side["trl"] = [(value, by_side["trl"][0][1]) for value in values]
        panels.append((f"{name} groups" if name == "failed" else name, by_side))
    return panels


def write(path: Path, results: Sequence[Result]) -> None:
    """All figures so far."""
    everything = [
        {"case": asdict(case), "floors": floors, "turns": [{s: asdict(m) for s, m in t.items()} for t in found]}
        for case, found, floors in results
    ]
    path.write_text(json.dumps(everything, indent=2), encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--trl", type=Path, metavar="FOLDER", help="where pip has put the TRL to compare with")
    parser.add_argument("--models", nargs="+", default=[TINY, SMOL], choices=MODELS)
    parser.add_argument("--alternations", type=int, default=5, help="how often the sides take turns")
    parser.add_argument("--steps", type=int, default=4, help="steps of each process; the first is not timed")
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    parser.add_argument("--quantization", default="none", choices=("none", "nf4"), help="of the base here")
    for flag in ("--prompts", "--group", "--tokens", "--micro-batch"):
        parser.add_argument(flag, type=int, help="instead of the model's usual one")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plot", type=Path, help="also vary rollouts, length and failed groups of the first model")
    return parser


def main() -> None:
    """Compare, print, and where asked for write and draw."""
    given = arguments().parse_args()
    sizes = {n: v for n in ("prompts", "group", "tokens", "micro_batch") if (v := getattr(given, n)) is not None}
    shared = {"steps": given.steps, "threads": given.threads, "quantization": given.quantization}
    results = []
    for model in given.models:
        with source_of(model) as source:
            for dtype in given.dtypes:
                case = Case("trl", model, source, dtype=dtype, **shared, **{**WORK[model], **sizes})
                results.append(compare(case, given.alternations, given.trl))
                if given.json:
                    write(given.json, results)
            if given.plot and model == given.models[0]:
                draw(given.plot, sweep(replace(case, dtype=given.dtypes[0]), given.trl))
    print(time_table(results), memory_table(results), settings_lines(results), sep="\n\n")


if __name__ == "__main__":
    main()
