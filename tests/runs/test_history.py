"""The one reader of growing records, and the validations in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.run_folders import scores

from expo_lite.core.errors import DataError
from expo_lite.runs import files
from expo_lite.runs.history import ENDING, Tail, validation_curves, validations


def add(path: Path, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def steps(tail: Tail) -> list[int]:
    return [record["step"] for record in tail.new()]


def lines(*numbers: int) -> str:
    return "".join(json.dumps({"text": "-" * ENDING, "step": number}) + "\n" for number in numbers)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "records.jsonl").write_text(lines(1, 2), encoding="utf-8")
    return tmp_path / "records.jsonl"


class TestTail:
    def test_each_record_comes_once(self, path: Path) -> None:
        tail = Tail(path)
        assert steps(tail) == [1, 2] and steps(tail) == []
        add(path, lines(3))
        assert tail.goes_on() and steps(tail) == [3]

    def test_a_line_without_an_end_is_left_for_the_next_time(self, path: Path) -> None:
        tail, line = Tail(path), lines(3)
        add(path, line[:9])
        assert steps(tail) == [1, 2] and tail.goes_on() and steps(tail) == []
        add(path, line[9:])
        assert tail.goes_on() and steps(tail) == [3]

    def test_a_reader_who_leaves_off_goes_on_there(self, path: Path) -> None:
        tail = Tail(path)
        assert next(tail.new())["step"] == 1
        assert tail.goes_on() and steps(tail) == [2]

    def test_a_file_that_is_not_there_yet(self, tmp_path: Path) -> None:
        tail = Tail(tmp_path / "later.jsonl")
        assert tail.goes_on() and steps(tail) == []
        add(tail.path, lines(1))
        assert tail.goes_on() and steps(tail) == [1]
        tail.path.unlink()
        assert not tail.goes_on() and steps(tail) == []

    @pytest.mark.parametrize("text", ["", lines(1), lines(1, 3), lines(1, 3, 4), lines(1, 3).replace("1", "10")])
    def test_another_text_in_its_place(self, path: Path, text: str) -> None:
        tail = Tail(path)
        assert steps(tail) == [1, 2]
        path.write_text(text, encoding="utf-8")
        assert not tail.goes_on() and steps(tail) == []

    def test_another_file_that_ends_alike(self, path: Path) -> None:
        """A resumed run writes what it keeps into a new file, and that may happen between a look and its records."""
        tail = Tail(path)
        assert steps(tail) == [1, 2] and tail.goes_on()
        files.write_text(path, lines(3, 2, 4))
        assert steps(tail) == [] and not tail.goes_on()

    def test_a_damaged_line_is_named_or_skipped(self, path: Path) -> None:
        strict, lenient = Tail(path), Tail(path, skips_damaged=True)
        assert steps(strict) == steps(lenient) == [1, 2]
        add(path, "\n" + lines(3) + "[1]\n")
        assert steps(strict) == steps(lenient) == [3]  # the last line may be torn
        assert steps(strict) == []
        add(path, lines(4))
        assert lenient.goes_on() and steps(lenient) == [4]
        for _ in range(2):
            with pytest.raises(DataError, match=r"records\.jsonl:5: is no JSON record"):
                steps(strict)


def test_validations_by_step_and_level() -> None:
    records = [
        scores("base_validation", 0, 0.5, 0.0),
        scores("base_test", 0, 0.25, 0.25),
        {"step": 5, "note": "another version's"},
        scores("validation", 10, 1.0),
        scores("test", 10, 0.75),
        scores("validation", 20, 1.0, 0.25),
    ]
    assert validation_curves(records) == {0: {1: 0.5, 2: 0.0}, 10: {1: 1.0}, 20: {1: 1.0, 2: 0.25}}
    assert validations(records)[20][2]["pass_at_1"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
