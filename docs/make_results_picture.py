"""Draw images/results.png from the tables of results.md: `python docs/make_results_picture.py`."""

from __future__ import annotations

import re
from pathlib import Path

from expo_lite.grading.intervals import Estimate
from expo_lite.studies.methods.pictures import plot_test_scores

DOCS = Path(__file__).parent
HEADING, K = "pass@4 after equal steps", 4


def scores(page: str, heading: str = HEADING) -> dict[str, dict[int, Estimate]]:
    """By method and level, from the first table below a heading."""
    table = page.partition(f"## {heading}\n\n")[2].partition("\n\n")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    levels = {column: int(name[1:]) for column, name in enumerate(head) if re.fullmatch(r"L\d+", name)}
    return {row[0]: {level: estimate(row[column]) for column, level in levels.items()} for row in rows}


def estimate(cell: str) -> Estimate:
    """`98 [95, 100]`, in per cent."""
    return Estimate(*(int(number) / 100 for number in re.findall(r"\d+", cell)))


if __name__ == "__main__":
    plot_test_scores(scores((DOCS / "results.md").read_text(encoding="utf-8")), K, DOCS / "images" / "results.png")
