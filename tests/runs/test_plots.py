"""Pictures show the numbers that they are made from (what tables and curves of other rooms share is tested there)."""

from __future__ import annotations

from matplotlib.figure import Figure
from support.run_folders import scores

from expo_lite.runs.history import validations
from expo_lite.runs.plots import plot_explanations, plot_levels


def test_what_became_of_explanations() -> None:
    """Shares of what was written, and of what could be checked."""
    records = [
        {"step": 1, "explanations_written": 8, "explanations_accepted": 6, "explanations_steps_right_share": 0.9},
        {"step": 3, "explanations_written": 4, "explanations_accepted": 0},
    ]
    axes = Figure().add_subplot()
    plot_explanations(axes, records)
    accepted, sound = axes.lines
    assert accepted.get_xydata().tolist() == [[1, 75], [3, 0]]
    assert sound.get_xydata().tolist() == [[1, 90]]


def test_a_level_that_was_scored_later_begins_later() -> None:
    records = [scores("base_validation", 0, 0.5), scores("base_test", 0, 0.9), scores("validation", 10, 1.0, 0.25)]
    axes = Figure().add_subplot()
    plot_levels(axes, validations(records))
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 50], [10, 100]], [[10, 25]]]
