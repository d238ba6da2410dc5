"""What two ideas for generating would gain, before they are built (docs/lab-notes.md says why they are not).

`python benchmarks/unbuilt.py early`: explaining a group as soon as all its rollouts have failed, simulated.
`python benchmarks/unbuilt.py drafts RUN`: drafts out of failed attempts, asked of a tiny run's samples.jsonl.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import AutoTokenizer

from expo_lite.config.model_files import TINY, model_source
from expo_lite.model.sampler import REFILL_BELOW
from expo_lite.runs.folder import SAMPLES, RunDir

Lengths = Sequence[tuple[int, object]]
"""Tokens of completions, and the group that each belongs to."""

EXPLANATIONS, FAILED, TRIALS = 4, 0.4, 40
SHAPES = (  # prompts, rollouts of each, rows at once, mean and longest completion; the first is about the tiny preset's
    (16, 8, 128, 33, 64),
    (16, 8, 128, 350, 1024),
    (8, 8, 64, 400, 2048),
    (8, 8, 32, 400, 2048),
    (16, 8, 32, 400, 1024),
)
LONGEST_RUN = 4  # tokens that a draft has to have in common with what was written, at most; at least two


def passes(completions: Lengths, alive: int, then: Mapping[object, Lengths]) -> tuple[int, int]:
    """Passes through the model, and rows of all of them, where others begin as they do in the sampler.

    Once all of a group have ended, `then` has what is to be written for it.
    """
    waiting, running, rows = list(completions), list[tuple[int, object]](), 0
    left = Counter(group for _, group in completions)
    count = total = 0
    while waiting or running:
        if len(running) <= REFILL_BELOW * rows:
            begun, waiting = waiting[: alive - len(running)], waiting[alive - len(running) :]
            running += begun
            rows = len(running)
        count, total = count + 1, total + rows
        running = [(length - 1, group) for length, group in running]
        for group in [group for length, group in running if not length]:
            left[group] -= 1
            if not left[group]:
                waiting += then.get(group, [])
                left.update(name for _, name in then.get(group, []))
        running = [row for row in running if row[0]]
    return count, total


def early(prompts: int, group: int, alive: int, mean: float, longest: int) -> tuple[float, float]:
    """Passes with explanations begun early, as a share of those without; and the same of rows."""
    together, apart = [0, 0], [0, 0]
    for trial in range(TRIALS):
        rng = random.Random(trial)

        def length(expected: float) -> int:
            return max(4, min(longest, int(rng.gammavariate(4, expected / 4))))  # noqa: B023  called at once

        rollouts: list[tuple[int, object]] = []
        explanations: dict[object, Lengths] = {}
        for prompt in range(prompts):
            failed = rng.random() < FAILED
            rollouts += [(length(mean * (1.25 if failed else 0.85)), prompt) for _ in range(group)]
            if failed:
                explanations[prompt] = [(length(mean), f"of {prompt}") for _ in range(EXPLANATIONS)]
        late = [one for own in explanations.values() for one in own]
        for sums, found in (
            (together, [passes(rollouts, alive, explanations)]),
            (apart, [passes(rollouts, alive, {}), passes(late, alive, {})]),
        ):
            sums[:] = [before + sum(values) for before, values in zip(sums, zip(*found, strict=True), strict=True)]
    return together[0] / apart[0], together[1] / apart[1]


def drafted(written: Sequence[int], sources: Sequence[Sequence[int]], most: int) -> list[int]:
    """The tokens that follow, in a source, the longest run in common with the end of what is written."""
    for run in range(min(LONGEST_RUN, len(written)), 1, -1):
        tail = list(written[-run:])
        for source in sources:
            for begin in range(len(source) - run - 1, -1, -1):
                if list(source[begin : begin + run]) == tail:
                    return list(source[begin + run : begin + run + most])
    return []


def passes_with_drafts(text: Sequence[int], attempts: Sequence[Sequence[int]], most: int) -> int:
    """Passes that write `text`, each as many tokens as its draft is right about, and one more."""
    at = count = 0
    while at < len(text):
        draft = drafted(text[:at], [*attempts, text[:at]], most)
        right = next((n for n, pair in enumerate(zip(draft, text[at:], strict=False)) if len({*pair}) > 1), len(draft))
        at, count = at + right + 1, count + 1
    return count


def drafts(run: Path) -> None:
    """Print what drafts of one to eight tokens would do for a run's explanations."""
    tokenizer = AutoTokenizer.from_pretrained(model_source(TINY))
    texts: defaultdict[tuple[int, str], defaultdict[str, list[list[int]]]] = defaultdict(lambda: defaultdict(list))
    for record in RunDir(run).read(SAMPLES):
        ids = tokenizer(record["text"], add_special_tokens=False)["input_ids"]
        texts[record["step"], record["problem"]][record["kind"]].append([*ids, tokenizer.eos_token_id])
    print("| tokens proposed | tokens a pass | passes by the longest row | positions a token |\n|---|---|---|---|")
    for most in (0, 1, 2, 4, 8):
        tokens = count = 0
        by_step: defaultdict[int, int] = defaultdict(int)
        for (step, _), kinds in texts.items():
            for text in kinds["explanation"]:
                needed = passes_with_drafts(text, kinds["rollout"], most)
                tokens, count, by_step[step] = tokens + len(text), count + needed, max(by_step[step], needed)
        print(f"| {most} | {tokens / count:.2f} | {sum(by_step.values())} | {count * (most + 1) / tokens:.1f} |")


def main() -> None:
    """Print the table of the idea that is named."""
    match sys.argv[1:]:
        case ["drafts", run]:
            drafts(Path(run))
        case ["early"]:
            print("| prompts x rollouts, rows at once, mean and longest | passes | rows |\n|---|---|---|")
            for prompts, group, alive, mean, longest in SHAPES:
                of_passes, of_rows = early(prompts, group, alive, mean, longest)
                print(f"| {prompts} x {group}, {alive}, {mean} and {longest} | {of_passes:.2f} | {of_rows:.2f} |")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
