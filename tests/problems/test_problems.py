"""Problems split into training, validation and test, and drawn by level; the embedded world; a file from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems import draw_problems, load_problems
from expo_lite.problems.splits import split_by_hash


def problems_of(**counts: int) -> list[Problem]:
    """`l1=3, l2=5`: so many problems at each level."""
    return [
        Problem(f"{name}-{i}", f"{name} {i}?", str(i), int(name[1:])) for name, n in counts.items() for i in range(n)
    ]


def take(count: int, problems: list[Problem], weights: dict[int, float], seed: int = 0, skip: int = 0) -> list[str]:
    return [p.id for p in islice(draw_problems(problems, weights, seed, skip), count)]


@pytest.mark.parametrize("skip", [0, 1, 7, 100])
def test_skipping_is_continuing(skip: int) -> None:
    problems = problems_of(l1=5, l2=7)
    assert take(30, problems, {1: 1, 2: 2}, skip=skip) == take(130, problems, {1: 1, 2: 2})[skip : skip + 30]


def test_the_stream_depends_on_the_seed() -> None:
    problems = problems_of(l1=50)
    assert take(50, problems, {1: 1}, seed=1) == take(50, problems, {1: 1}, seed=1)
    assert take(50, problems, {1: 1}, seed=1) != take(50, problems, {1: 1}, seed=2)


def test_each_pass_holds_every_problem_once_in_a_new_order() -> None:
    problems = problems_of(l1=6)
    drawn = take(18, problems, {1: 1})
    passes = [drawn[0:6], drawn[6:12], drawn[12:18]]
    assert all(sorted(one) == [p.id for p in problems] for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_levels_come_by_weight() -> None:
    """1 : 3 over 4000 draws; the standard deviation of the share is 0.7 %. Level 3 has weight 0."""
    drawn = take(4000, problems_of(l1=9, l2=9, l3=9), {1: 1, 2: 3, 3: 0})
    counts = Counter(id.split("-")[0] for id in drawn)
    assert counts["l2"] / 4000 == pytest.approx(0.75, abs=0.04)
    assert counts["l3"] == 0


def test_a_level_without_problems_is_passed_over() -> None:
    assert set(take(10, problems_of(l1=2), {1: 1, 4: 5})) == {"l1-0", "l1-1"}


def test_no_problem_at_any_level_is_an_error() -> None:
    with pytest.raises(DataError, match=r"levels \[4, 5\].*has levels \[1, 2\]"):
        draw_problems(problems_of(l1=1, l2=1), {5: 1, 4: 1}, 0)


def test_a_file_is_split_by_question(tmp_path: Path) -> None:
    """Disjoint, complete, the same for any order of lines, levels held out alike and at most a quarter of each."""
    rows = [{"question": f"{i}+{i}?", "answer": 2 * i, "level": 1 + i % 2} for i in range(96)]
    splits = []
    for order in (rows, rows[::-1]):
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in order), encoding="utf-8")
        split = load_problems(DataConfig(source=str(path), validation_problems=4, test_problems=100))
        splits.append([[p.question for p in part] for part in (split.train, split.validation, split.test)])
        for part, count in ((split.validation, 4), (split.test, 6)):
            assert Counter(p.level for p in part) == {1: count, 2: count}
    train, validation, test = splits[0]
    assert sorted(train + validation + test) == sorted(str(row["question"]) for row in rows)
    assert splits[1] == splits[0]


def test_too_few_problems_to_hold_some_out() -> None:
    with pytest.raises(DataError, match="too few problems"):
        split_by_hash(problems_of(l1=7, l2=3), DataConfig())


def test_given_test_problems_are_never_trained_on() -> None:
    """They are thinned to the number asked for, and those left over are not trained on either."""
    problems, test = problems_of(l1=20, l2=20), problems_of(l1=6, l2=1)
    split = split_by_hash(problems, DataConfig(test_problems=4, validation_problems=2), test)
    assert Counter(p.level for p in split.test) == {1: 4, 2: 1}
    assert Counter(p.level for p in split.validation) == {1: 1, 2: 2}
    assert {p.id for p in split.train + split.validation} == {p.id for p in problems} - {p.id for p in test}
    assert "7 training problems that are also test problems are left out" in split.notes


def test_held_out_sets_that_shrink_are_said() -> None:
    small = split_by_hash(problems_of(l1=40, l2=7, l4=800), DataConfig(validation_problems=10, test_problems=64))
    assert small.notes == (
        "validation problems are fewer than data.validation_problems (10): 5 of level 1, 0 of level 2",
        "test problems are fewer than data.test_problems (64): 5 of level 1, 0 of level 2",
    )
    given = split_by_hash(problems_of(l1=40), DataConfig(validation_problems=5, test_problems=4), problems_of(x2=3))
    assert given.notes == ("test problems are fewer than data.test_problems (4): 3 of level 2",)
    assert split_by_hash(problems_of(l1=80), DataConfig(validation_problems=10, test_problems=10)).notes == ()


def test_levels_that_the_data_lacks_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps({"question": f"{i}?", "answer": i, "level": 2 + i % 2}) for i in range(32)))
    with pytest.raises(DataError, match=r"^data\.levels: .* at levels \[5\]; the data has levels \[2, 3\]"):
        load_problems(DataConfig(source=str(path), levels={5: 1, 2: 0}))
    notes = load_problems(DataConfig(source=str(path), levels={2: 1})).notes
    assert "levels [3] of the data are not in data.levels and so never trained on" in notes


def test_the_tiny_world_has_as_many_as_asked_for() -> None:
    split = load_problems(DataConfig(validation_problems=3, test_problems=5))
    assert Counter(p.level for p in split.validation) == dict.fromkeys(range(1, 6), 3)
    assert Counter(p.level for p in split.test) == dict.fromkeys(range(1, 6), 5)
    ids = [p.id for part in (split.train, split.validation, split.test) for p in part]
    assert len(set(ids)) == len(ids)


def test_the_tiny_world_has_no_columns() -> None:
    """A setting that would change nothing is a mistake that should show."""
    with pytest.raises(DataError, match=r"data\.columns, data\.split: without meaning for data\.source tiny"):
        load_problems(DataConfig(columns={"question": "q"}, split="train"))


@pytest.mark.slow
def test_a_file_trains_from_end_to_end(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {i}+{i}?", "answer": 2 * i, "level": f"Level {1 + i % 2}"} for i in range(10, 42)]
    path = tmp_path / "my.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    flags = {
        "preset": "tiny",
        "data.source": "my.jsonl",
        "steps": "1",
        "run": "out",
        "evaluation.samples": "1",
        "rollout.prompts-per-step": "2",
        "rollout.group-size": "2",
        "rollout.max-new-tokens": "6",
    }
    command = [word for name, value in flags.items() for word in (f"--{name}", value)]
    ended = subprocess.run(
        [sys.executable, "-m", "expo_lite.train", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert ended.returncode == 0, ended.stderr
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert samples
    assert all(any(row["problem"] in json.dumps(sample) for row in rows) for sample in samples)
