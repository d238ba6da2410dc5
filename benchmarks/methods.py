"""Plain GRPO, expert solutions and self-explanations side by side, at equal steps and at equal seconds.

    python benchmarks/methods.py --seeds 0 1 2 3 4 --to runs/methods

Trains each method with each seed on the same problems in the same order, scores the adapters on held-out
problems (256 a level, 16 samples each), and writes results.json, results.md and results.png. What is
finished already is not done again. Extra arguments, such as `--steps 50`, go to every training.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from expo_lite.assemble import assemble
from expo_lite.checkpoint import load_adapter
from expo_lite.config_reader import Request, read_config, read_request
from expo_lite.intervals import pass_at_k, seed_and_problem_interval
from expo_lite.loop import train
from expo_lite.metrics import PHASES
from expo_lite.run_dir import EVAL, METRICS, RunDir
from expo_lite.sampler import SampleRequest
from expo_lite.tiny import world
from expo_lite.types import Verdict

METHODS = {"none": "GRPO", "expert": "GRPO SFT-GT-CoT", "self": "ExP-GRPO"}
COLORS = {"none": "tab:gray", "expert": "tab:orange", "self": "tab:green"}
PROBLEMS, SAMPLES, K = 256, 16, 4


def run_method(source: str, seed: int, folder: Path, extra: list[str], steps: int | None = None) -> RunDir:
    """One training run, unless its folder is finished; an unfinished one is begun anew."""
    run = RunDir(folder)
    if not run.adapter.is_dir() or run.read_status().get("state") != "finished":
        shutil.rmtree(folder, ignore_errors=True)
        flags = ["--preset", "tiny", "--seed", str(seed), "--explanation.source", source, "--run", str(folder), *extra]
        request: Request = read_request(flags)
        if steps is not None:
            request = replace(request, config=request.config.model_copy(update={"steps": steps}))
        train(request, Console(quiet=True))
    return run


def training_seconds(run: RunDir) -> float:
    """Seconds of generating, verifying, explaining and training; without validation."""
    return sum(record[f"{phase}_seconds"] for record in run.read(METRICS) for phase in PHASES)


def score(run: RunDir, adapter: bool) -> dict[str, list[int]]:
    """Right answers of each held-out problem by level, kept in the run's folder."""
    path = run.path / ("scores.json" if adapter else "base_scores.json")
    if path.is_file():
        return json.loads(path.read_text())
    config = read_config(run.config)
    scores = {}
    with assemble(config) as parts:
        if adapter:
            load_adapter(run.adapter, parts.policy.model)
        for level in world.LEVELS:
            problems = world.problems("test", level, PROBLEMS)
            requests = [SampleRequest(parts.prompts.task(p), SAMPLES, ("methods", p.id)) for p in problems]
            written = parts.sampler.sample(requests, config.rollout.max_new_tokens, config.rollout.temperature)
            verdicts = parts.verifier.judge_completions(problems, written)
            scores[str(level)] = [of_problem.count(Verdict.CORRECT) for of_problem in verdicts]
    path.write_text(json.dumps(scores))
    return scores


def summarise(scores: list[dict[str, list[int]]]) -> dict[str, dict[str, list]]:
    """pass@1 and pass@4 by level with intervals, and by seed."""
    out = {}
    for level in map(str, world.LEVELS):
        counts = np.array([of_seed[level] for of_seed in scores])
        out[level] = {
            "pass_at_1": astuple(seed_and_problem_interval(counts, SAMPLES, 1)),
            f"pass_at_{K}": astuple(seed_and_problem_interval(counts, SAMPLES, K)),
            "pass_at_1_by_seed": (counts.mean(1) / SAMPLES).round(4).tolist(),
            f"pass_at_{K}_by_seed": [round(float(pass_at_k(row, SAMPLES, K).mean()), 4) for row in counts],
        }
    return out


def table(results: dict[str, dict], name: str) -> str:
    """Markdown: a row per method, a column per level."""
    head = (
        f"| {name.replace('_at_', '@')} (%) | " + " | ".join(f"L{n}" for n in world.LEVELS) + " | steps | seconds |\n"
    )
    lines = [head, "|---" * (len(world.LEVELS) + 3) + "|\n"]
    for method, result in results.items():
        cells = [
            "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * x for x in result["levels"][str(n)][name])) for n in world.LEVELS
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {result['steps']} | {result['seconds']} |\n")
    return "".join(lines)


def plot(runs: dict[str, list[RunDir]], results: dict[str, dict], path: Path) -> None:
    """Left: held-out pass@1 on the two hardest levels while training. Right: pass@4 by level at the end."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    for source, of_method in runs.items():
        curves = [
            [record for record in run.read(EVAL) if record["name"] in ("base_validation", "validation")]
            for run in of_method
        ]
        steps = [record["step"] for record in curves[0]]
        hard = 100 * np.array(
            [[np.mean([s["pass_at_1"]["mean"] for s in record["levels"][-2:]]) for record in curve] for curve in curves]
        )
        left.plot(steps, hard.mean(0), color=COLORS[source], marker=".", label=METHODS[source])
        left.fill_between(steps, hard.min(0), hard.max(0), color=COLORS[source], alpha=0.15, linewidth=0)
    left.set(
        title=f"Levels 4 and 5 while training ({len(curves)} seeds, band: lowest to highest)",
        xlabel="step",
        ylabel="pass@1 (%)",
        ylim=(-2, 102),
    )
    left.legend(frameon=False)
    bars = {"base": "lightgray", **{METHODS[source]: COLORS[source] for source in METHODS}}
    for index, (method, color) in enumerate(bars.items()):
        points = np.array([results[method]["levels"][str(n)][f"pass_at_{K}"] for n in world.LEVELS]) * 100
        x = np.arange(len(world.LEVELS)) + 0.2 * (index - 1.5)
        errors = np.abs(points[:, 1:].T - points[:, 0])
        right.bar(x, points[:, 0], 0.19, yerr=errors, color=color, label=method, error_kw={"lw": 1})
    right.set(
        title=f"Held-out pass@{K} by level, equal steps",
        xticks=range(5),
        xticklabels=[f"level {n}" for n in world.LEVELS],
        ylim=(0, 105),
    )
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--to", type=Path, default=Path("runs/methods"))
    args, extra = parser.parse_known_args()
    runs: dict[str, list[RunDir]] = {source: [] for source in METHODS}
    longer: dict[str, list[RunDir]] = {"none": [], "expert": []}
    for seed in args.seeds:
        for source in METHODS:
            runs[source].append(run_method(source, seed, args.to / f"{source}-{seed}", extra))
            score(runs[source][-1], adapter=True)
            print(f"{METHODS[source]} seed {seed}: {training_seconds(runs[source][-1]):.0f} s", flush=True)
        budget = training_seconds(runs["self"][-1])
        for source in longer:
            run = runs[source][-1]
            steps = max(1, round(read_config(run.config).steps * budget / training_seconds(run)))
            longer[source].append(run_method(source, seed, args.to / f"{source}-{seed}-same-seconds", extra, steps))
            score(longer[source][-1], adapter=True)
    results = {"base": {"levels": summarise([score(runs["self"][0], adapter=False)]), "steps": 0, "seconds": 0}}
    named = [(METHODS[s], r) for s, r in runs.items()] + [(f"{METHODS[s]}, same seconds", r) for s, r in longer.items()]
    for method, of_method in named:
        results[method] = {
            "levels": summarise([score(run, adapter=True) for run in of_method]),
            "steps": round(np.mean([read_config(run.config).steps for run in of_method])),
            "seconds": round(np.mean([training_seconds(run) for run in of_method])),
        }
    text = "\n".join(table(results, name) for name in (f"pass_at_{K}", "pass_at_1"))
    (args.to / "results.md").write_text(text)
    (args.to / "results.json").write_text(json.dumps(results, indent=1))
    plot(runs, results, args.to / "results.png")
    print(text)


if __name__ == "__main__":
    main()
