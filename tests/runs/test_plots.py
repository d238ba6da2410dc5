"""Pictures show the numbers that they are made from (what tables and curves of other rooms share is tested there)."""

from __future__ import annotations

import colorsys
import re
import runpy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from support.run_folders import scores

from expo_lite.core.charts import ACCENT, RIGHT, WRONG, level_colour, spread
from expo_lite.runs.history import validations
from expo_lite.runs.plot_style import Series, curves, name_ends, picture, running_mean, window
from expo_lite.runs.plots import plot_explanations, plot_groups, plot_levels, plot_properties


@pytest.fixture
def axes(tmp_path: Path):
    with picture(tmp_path / "picture.png", 1) as (panel,):
        yield panel


def said(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_explanations_are_counted_and_smoothed(axes: Axes) -> None:
    """Shares of few were a zigzag from 0 to 100."""
    records = [
        {"step": 1, "explanations_written": 8, "explanations_accepted": 6, "explanations_trained_wrong_steps": 2},
        {"step": 2, "explanations_written": 0, "explanations_accepted": 0},
        {"step": 3, "explanations_written": 4, "explanations_accepted": 0, "explanations_trained_wrong_steps": 0},
    ]
    plot_explanations(axes, records)
    behind, lines = axes.lines[::2], axes.lines[1::2]
    for drawn in (behind, lines):  # too few steps to be smoothed
        assert [list(line.get_ydata()) for line in drawn] == [[8, 0, 4], [6, 0, 0], [2, 0, 0]]
    assert [line.get_color() for line in lines][1:] == [RIGHT, WRONG]
    assert sorted(said(axes)) == ["accepted  0", "trained, a step wrong  0", "written  4"]


def test_what_failed_is_red_and_what_is_solved_is_green(axes: Axes) -> None:
    plot_groups(axes, [{"step": n, **dict.fromkeys(("failed_groups", "solved_groups"), n)} for n in (1, 2)])
    assert [line.get_color() for line in axes.lines[1::2]] == [WRONG, RIGHT]  # others have no record


def test_curves_of_many_steps_are_means_over_the_raw_points(axes: Axes) -> None:
    steps = range(1, 101)
    plot_groups(axes, [{"step": n, "failed_groups": n % 2} for n in steps])
    points, line = axes.lines
    assert list(points.get_ydata()) == [n % 2 for n in steps] and points.get_linestyle() == "None"
    assert all(abs(y - 0.5) < 0.1 for y in line.get_ydata()) and window(100) == 11
    assert running_mean([0, 3, 6, 9], 3) == [1.5, 3, 6, 7.5]
    assert "11" in axes.get_xlabel()


def test_a_level_that_was_scored_later_begins_later(axes: Axes) -> None:
    records = [scores("base_validation", 0, 0.5), scores("base_test", 0, 0.9), scores("validation", 10, 1.0, 0.25)]
    plot_levels(axes, validations(records))
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 50], [10, 100]], [[10, 25]]]
    assert sorted(said(axes)) == ["level 1  100 %", "level 2  25 %"]


def test_a_single_point_becomes_a_number(axes: Axes) -> None:
    plot_levels(axes, validations([scores("base_validation", 0, 0.5)]))
    assert not axes.lines and "level 1" in said(axes) and any(text.startswith("50 %") for text in said(axes))


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_no_step_and_of_one(count: int, axes: Axes) -> None:
    plot_groups(axes, [{"step": 1, "failed_groups": 3}][:count])
    assert not axes.lines and ("3" in said(axes)) == bool(count)


@pytest.mark.parametrize("levels", [1, 5, 10])
def test_names_stand_whole_and_apart(levels: int, tmp_path: Path) -> None:
    """Neither over each other, nor over the data, nor beyond the picture, however many curves end together."""
    path = tmp_path / "picture.png"
    with picture(path, 1) as (axes,):
        axes.set_ylim(0, 100)
        curves(axes, [Series(f"level {n}", "#000000", [(0, 0, 0, 0), (9, 100, 90, 100)]) for n in range(levels)])
    renderer = FigureCanvasAgg(axes.figure).get_renderer()  # type: ignore[arg-type]
    for text in axes.texts:
        text.update_positions(renderer)  # type: ignore[attr-defined]
    texts = (Text.get_window_extent(text, renderer) for text in axes.texts)  # without their lines
    boxes = sorted(texts, key=lambda box: box.y0)
    within, data = axes.figure.bbox, axes.get_window_extent(renderer)
    assert len(boxes) == levels
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    assert all(box.x0 > data.x1 and box.x1 <= within.x1 and box.y0 >= 0 and box.y1 <= within.y1 for box in boxes)


def test_names_at_one_height_stay_in_order(axes: Axes) -> None:
    name_ends(axes, [(name, (1.0, 0.5), "black") for name in "abc"])
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert heights["a"] > heights["b"] > heights["c"]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [([5.0, 5.0], [5, 15]), ([98.0, 99.0], [90, 100]), ([0.0, 50.0], [0, 50]), ([100.0, 0.0], [100, 0])],
)
def test_places_near_the_wanted_ones(wanted: Sequence[float], places: Sequence[float]) -> None:
    assert spread(wanted, 10.0, 100.0) == places


@pytest.mark.parametrize("levels", [1, 2, 5, 10])
def test_levels_are_one_hue_from_light_to_dark(levels: int) -> None:
    colours = [level_colour(n, levels) for n in range(levels)]
    parts = [colorsys.rgb_to_hls(*(int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))) for colour in colours]
    lightness = [light for _, light, _ in parts]
    assert lightness == sorted(lightness, reverse=True) and len(set(colours)) == levels
    assert max(hue for hue, *_ in parts) - min(hue for hue, *_ in parts) < 0.03
    assert all(contrast_on_white(colour) > 2.3 for colour in colours)


def test_the_app_has_the_colours_of_the_pictures() -> None:
    css = (Path(__file__).parents[2] / "expo_lite/app/style.css").read_text(encoding="utf-8")  # without gradio
    light = re.findall(r"^:root \{(.*?)\}", css, re.MULTILINE | re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", "".join(light)))
    assert {name: colours[name] for name in ("right", "wrong", "accent")} == {
        "right": RIGHT,
        "wrong": WRONG,
        "accent": ACCENT,
    }
    assert [colours[f"s{n + 1}"] for n in range(5)] == [level_colour(n, 5) for n in range(5)]


def contrast_on_white(colour: str) -> float:
    """By WCAG 2's formula."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05)


def test_right_attempts_are_green_and_wrong_ones_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And told apart without colour."""
    kinds = ("own right attempt", "own wrong attempt")
    drawn: dict[str, Series] = {}
    kept = lambda axes, series, *rest: drawn.update({one.name: one for one in series if one.points})  # noqa: E731
    monkeypatch.setattr("expo_lite.runs.plots.curves", kept)
    row = {"side": "base", "measure": "nll_nats_per_token", "level": 1, "mean": 1.0, "low": 0.5, "high": 2.0}
    plot_properties([{**row, "kind": kind} for kind in kinds], tmp_path / "picture.png")
    right, wrong = (drawn[kind] for kind in kinds)
    assert (right.colour, wrong.colour) == (RIGHT, WRONG)
    assert right.marker != wrong.marker and right.dash != wrong.dash
    assert right.points == [(1, 1.0, 0.5, 2.0)]


def test_the_picture_of_the_results_is_made_of_their_table() -> None:
    """One figure is read off the page by hand."""
    docs = Path(__file__).parents[2] / "docs"
    code = runpy.run_path(str(docs / "make_results_picture.py"))
    found = code["scores"]((docs / "results.md").read_text(encoding="utf-8"))
    assert list(found)[:2] == ["base", "GRPO"] and {*map(len, found.values())} == {5}
    assert found["base"][1].low == 0.97 and found["base"][4].high == 0.03
