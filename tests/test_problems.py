"""Problems from the embedded world and from files: read, split, drawn."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from expo_lite.config import DataConfig
from expo_lite.errors import DataError
from expo_lite.problems import draw_problems, load_problems, read_jsonl_problems, split_by_hash
from expo_lite.types import Problem


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


def jsonl(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(lines))
    return path


GOOD = {"question": "1+1?", "answer": "2"}


def test_rows_are_read(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "data.jsonl",
        {"question": "1+1?", "answer": 2, "level": 3, "solution": "count"},
        b"",
        {"question": "½+½? ", "answer": "The sum.\n#### 1", "level": None, "source": "ignored"},
    )
    one, two = read_jsonl_problems(path)
    assert (one.question, one.answer, one.level, one.solution) == ("1+1?", "2", 3, "count")
    assert (two.question, two.answer, two.level, two.solution) == ("½+½? ", "1", 1, None)
    assert one.id != two.id


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (b'{"question": "1+1?", "answer": ', "not valid JSON"),
        (b'{"question": "\xff", "answer": "1"}', r"not UTF-8 text \(byte 14\)"),
        (["1+1?", "2"], "should be an object with question, answer, got list"),
        ({"answer": "2"}, "question: should be non-empty text, got None"),
        ({"question": " ", "answer": "2"}, "question: should be non-empty text"),
        ({"question": "1+1?"}, "answer: should be text or a number, got None"),
        ({"question": "1+1?", "answer": True}, "answer: should be text or a number, got True"),
        ({"question": "1+1?", "answer": " "}, "answer: should be text or a number"),
        ({**GOOD, "level": "hard"}, "level: should be a whole number, got 'hard'"),
        ({**GOOD, "level": 1.5}, "level: should be a whole number, got 1.5"),
        ({**GOOD, "level": True}, "level: should be a whole number, got True"),
        ({**GOOD, "solution": ["1"]}, "solution: should be text"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, row: Any, complaint: str) -> None:
    path = jsonl(tmp_path / "data.jsonl", GOOD, b"", row)
    with pytest.raises(DataError, match=rf"data\.jsonl:3: {complaint}"):
        read_jsonl_problems(path)


@pytest.mark.parametrize("rows", [[], [b"", b"  "]])
def test_an_empty_file_is_an_error(tmp_path: Path, rows: list) -> None:
    with pytest.raises(DataError, match="holds no problems"):
        read_jsonl_problems(jsonl(tmp_path / "data.jsonl", *rows))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*none\.jsonl"):
        load_problems(DataConfig(source=str(tmp_path / "none.jsonl")))


def test_repeated_questions_are_dropped(tmp_path: Path) -> None:
    """Else the same question could be trained on and tested. The first one stays."""
    path = jsonl(tmp_path / "data.jsonl", GOOD, {"question": "2+2?", "answer": "4"}, {**GOOD, "answer": "3"})
    assert [(p.question, p.answer) for p in read_jsonl_problems(path)] == [("1+1?", "2"), ("2+2?", "4")]


def test_a_file_is_split_by_question(tmp_path: Path) -> None:
    """Disjoint, complete, the same for any order of lines, levels held out alike and at most a quarter of each."""
    rows = [{"question": f"{i}+{i}?", "answer": 2 * i, "level": 1 + i % 2} for i in range(96)]
    splits = []
    for order in (rows, rows[::-1]):
        path = jsonl(tmp_path / "data.jsonl", *order)
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


def test_the_tiny_world_has_as_many_as_asked_for() -> None:
    split = load_problems(DataConfig(validation_problems=3, test_problems=5))
    assert Counter(p.level for p in split.validation) == dict.fromkeys(range(1, 6), 3)
    assert Counter(p.level for p in split.test) == dict.fromkeys(range(1, 6), 5)
    ids = [p.id for part in (split.train, split.validation, split.test) for p in part]
    assert len(set(ids)) == len(ids)
