"""What a record has to hold, and that one reader says where it does not."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import scores

from expo_lite.core.errors import DataError
from expo_lite.grading.evaluator import Evaluation, LevelScore
from expo_lite.runs import files
from expo_lite.runs.folder import EVAL, METRICS, RECORDS, SAMPLES, RunDir
from expo_lite.runs.history import Tail
from expo_lite.runs.records import ESTIMATES, LEVEL_NUMBERS

EARLIER = Path(__file__).parents[1] / "data" / "run_before_the_rooms"
SOUND = {METRICS: {"step": 1}, SAMPLES: {"step": 1}, EVAL: scores("validation", 1, 0.5)}


def level(**changes: Any) -> dict[str, Any]:
    """A record of eval.jsonl with other values in its first level."""
    record = scores("validation", 1, 0.5, 0.25)
    record["levels"][0] |= changes
    return record


WRONG: list[tuple[str, dict[str, Any], str]] = [
    (METRICS, {"reward_mean": 0.5}, "step is missing"),
    (METRICS, {"step": "1"}, "step is missing or no whole number"),
    (METRICS, {"step": True}, "step is missing or no whole number"),
    (METRICS, {"step": 1, "failed_groups": "two"}, "failed_groups is no number"),
    (METRICS, {"step": 1, "explanations_written": [1]}, "explanations_written is no number"),
    (SAMPLES, {"step": None, "text": "a"}, "step is missing"),
    (SAMPLES, {"step": 1, "text": 3}, "text is no text"),
    (SAMPLES, {"step": 1, "turns": 3}, "turns is no list of turns"),
    (SAMPLES, {"step": 1, "turns": [{"role": "user"}]}, "turns is no list of turns"),
    (EVAL, {"step": 1, "levels": []}, "name is missing"),
    (EVAL, {"step": 1, "name": "validation"}, "levels is missing"),
    (EVAL, {"step": 1, "name": "validation", "levels": [1]}, "levels holds something else"),
    (EVAL, {"step": 1, "name": "validation", "levels": [{"level": 1}]}, "levels: k is missing"),
    (EVAL, level(k="4"), "levels: k is no number"),
    (EVAL, level(pass_at_1=0.5), "levels: pass_at_1 is no estimate"),
    (EVAL, level(pass_at_k={"mean": 1, "low": 1, "high": None}), r"levels: pass_at_k\.high is no number"),
]


@pytest.mark.parametrize(("name", "record", "amiss"), WRONG)
def test_both_readers_name_file_and_line(tmp_path: Path, name: str, record: dict[str, Any], amiss: str) -> None:
    files.append_jsonl(tmp_path / name, [SOUND[name], record, SOUND[name]])
    for read in (lambda: RunDir(tmp_path).read(name), lambda: list(Tail(tmp_path / name).new())):
        with pytest.raises(DataError, match=rf"{name}:2: {amiss}.*; the file was damaged, or edited by hand$"):
            read()
    assert len(list(Tail(tmp_path / name, skips_damaged=True).new())) == 2


@pytest.mark.parametrize("name", RECORDS)
def test_what_cannot_be_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=rf"{name} cannot be read \("):
        RunDir(tmp_path).read(name)


@pytest.mark.parametrize("name", RECORDS)
def test_an_earlier_versions_are_sound(name: str) -> None:
    assert RunDir(EARLIER).read(name)


def test_the_scores_of_a_level_are_those_that_are_written() -> None:
    assert {*LEVEL_NUMBERS, *ESTIMATES} == {field.name for field in fields(LevelScore)}
    written = level(added_later=1)["levels"]
    assert Evaluation.from_record(written).levels[0].k == 4


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"step": "3"}', '{"heartbeat": "now"}', '{"state": 1}', "\x00" * 9, "[" * 9999]
)
def test_a_damaged_status_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(DataError, match=r"status\.json: .*edited by hand: delete"):
        RunDir(tmp_path).read_status()
