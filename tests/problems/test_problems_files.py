"""Local files: what is read, what is refused, and that every wrong row is named with its line."""

from __future__ import annotations

import csv
import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Completion, Problem, Verdict
from expo_lite.problems import load_problems
from expo_lite.problems.columns import problems_of
from expo_lite.problems.files import read_file
from expo_lite.training.samples import sample_record

GOOD = {"question": "1+1?", "answer": "2"}


def jsonl(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"\n".join(lines))
    return path


def parquet(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def read(path: Path, columns: dict[str, str] | None = None, bad_rows: int = 0) -> list[Problem]:
    return problems_of(read_file(path), columns or {}, str(path), bad_rows)[0]


def numbered(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"{i}+{i}?", "answer": str(2 * i), **more} for i in range(start, start + count)]


# ------------------------------------------------------------------------------------------- JSON lines


def test_a_problem_knows_its_line_and_so_do_its_samples(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", GOOD, b"", {"question": "1+2?", "answer": "3"})
    one, two = read(path)
    assert (one.where, two.where) == (f"{path}:1", f"{path}:3")
    completion = Completion([1], [2], [0.0], True, "so 3")
    assert sample_record(1, two, completion, Verdict.CORRECT)["where"] == two.where
    assert "where" not in sample_record(1, replace(two, where=None), completion, Verdict.CORRECT)
    assert replace(two, where=None) == two


def test_rows_are_read(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "data.jsonl",
        b"\xef\xbb\xbf" + json.dumps({"question": "1+1?", "answer": 2, "level": 3, "solution": "count"}).encode(),
        b"",
        {"question": "½+½? ", "answer": "The sum is <<0.5+0.5=1>>1.\n#### 1", "level": None, "source": "ignored"},
        {"question": "1+2?", "answer": "\\boxed{3}", "level": "Level 2", "solution": ""},
        {"question": "1+3?", "answer": 4.0, "level": 2.0, "solution": "So $\\boxed{4}$, of course."},
    )
    one, two, three, four = read(path)
    assert (one.question, one.answer, one.level) == ("1+1?", "2", 3)
    assert one.solution == "count\nThe answer is $\\boxed{2}$."
    assert (two.question, two.answer, two.level) == ("½+½? ", "1", 1)
    assert two.solution == "The sum is 1.\nThe answer is $\\boxed{1}$."
    assert (three.answer, three.level, three.solution) == ("3", 2, None)
    assert (four.answer, four.level, four.solution) == ("4.0", 2, "So $\\boxed{4}$, of course.")
    assert len({p.id for p in (one, two, three, four)}) == 4


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (b'{"question": "1+1?", "answer": ', "not valid JSON"),
        (b'{"question": "\xff", "answer": "1"}', r"not UTF-8 text \(byte 14\)"),
        (b'{"question": "q", "answer": ' + b"1" * 5000 + b"}", "not usable JSON"),
        (b'{"question": "q\\ud800", "answer": "1"}', "question: holds half a surrogate pair"),
        (["1+1?", "2"], r"should be an object like .*, got list"),
        ({"answer": "2"}, "question: should be non-empty text, got None"),
        ({"question": " ", "answer": "2"}, "question: should be non-empty text"),
        (
            {"question": [{"role": "user", "content": " "}], "answer": "2"},
            r"question: turn 1 \(user\) should be non-empty text, got ' '",
        ),
        ({"question": "1+1?"}, "answer: should be text or a number, got None"),
        ({"question": "1+1?", "answer": True}, "answer: should be text or a number, got True"),
        ({"question": "1+1?", "answer": float("nan")}, "answer: should be text or a number, got nan"),
        ({"question": "1+1?", "answer": " "}, "answer: should be text or a number"),
        ({"question": "1+1?", "answer": ["2"]}, "answer: should be text or a number"),
        ({"question": "1+1?", "answer": "Two of them.\n#### "}, "answer: should hold an answer"),
        ({"question": "1+1?", "answer": "It is \\boxed{}."}, "answer: should hold an answer"),
        ({"question": "1+1?", "answer": "It is \\boxed{2"}, "answer: should hold an answer"),
        ({"question": "1+1?", "answer": "because " * 200}, "answer: should be a final answer, got a text of 1599"),
        ({**GOOD, "level": "hard"}, "level: should be a whole number, got 'hard'"),
        ({**GOOD, "level": "Level ?"}, "level: should be a whole number, got 'Level \\?'"),
        ({**GOOD, "level": 1.5}, "level: should be a whole number, got 1.5"),
        ({**GOOD, "level": True}, "level: should be a whole number, got True"),
        ({**GOOD, "level": 0}, "level: should be at least 1, got 0"),
        ({**GOOD, "solution": ["1"]}, "solution: should be text"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, row: Any, complaint: str) -> None:
    path = jsonl(tmp_path / "data.jsonl", {**GOOD, "level": 1, "solution": "s"}, b"", row)
    with pytest.raises(DataError, match=rf"^[^\n]*data\.jsonl:3: {complaint}"):
        read(path)


def test_all_wrong_rows_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    rows = [*numbered(3), *[{"question": "q", "answer": None}] * 7, *numbered(2, 10)]
    with pytest.raises(DataError) as refused:
        read(jsonl(tmp_path / "data.jsonl", *rows))
    first, *named, more, advice = str(refused.value).splitlines()
    assert first.endswith("data.jsonl: 7 of 12 rows cannot be used:")
    assert [line.split("data.jsonl:")[1].split(":")[0] for line in named] == ["4", "5", "6", "7", "8"]
    assert more.strip() == "and 2 more"
    assert advice == "Correct them, or leave them out with --data.bad-rows 7."


def test_wrong_rows_are_left_out_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", *numbered(32), b"{", {"question": "q", "answer": ""})
    with pytest.raises(DataError, match=r"2 of 34 rows .*\n.*\n.*\n.*--data\.bad-rows 2 \(now 1\)"):
        load_problems(DataConfig(source=str(path), bad_rows=1))
    found = load_problems(DataConfig(source=str(path), bad_rows=2))
    assert len(found.train + found.validation + found.test) == 32
    assert [note.split("data.jsonl:")[1][:3] for note in found.notes if "left out" in note] == ["33:", "34:"]


def test_a_file_of_wrong_rows_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl:1: not valid JSON"):
        read(jsonl(tmp_path / "data.jsonl", b"{"), bad_rows=10)


@pytest.mark.parametrize("rows", [[], [b"", b"  "]])
def test_an_empty_file_is_an_error(tmp_path: Path, rows: list) -> None:
    with pytest.raises(DataError, match="holds no problems"):
        read(jsonl(tmp_path / "data.jsonl", *rows))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([GOOD, GOOD]),
        json.dumps([GOOD, GOOD], indent=2),
        json.dumps({"data": [GOOD, GOOD]}),
        json.dumps({"data": [GOOD, GOOD]}, indent=2),
        json.dumps(GOOD, indent=2),
    ],
)
def test_one_json_document_is_told_from_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.json: .* one object a line.*jq -c") as refused:
        read(path)
    assert len(str(refused.value).splitlines()) == 1


def test_repeated_questions_are_dropped(tmp_path: Path) -> None:
    """Else the same question could be trained on and tested. The first one stays; white space does not count."""
    rows = [GOOD, {"question": "2+2?", "answer": "4"}, {**GOOD, "answer": "2.0"}, {**GOOD, "question": " 1+1?\n"}]
    path = jsonl(tmp_path / "data.jsonl", *rows)
    problems, (note,) = problems_of(read_file(path), {}, str(path))
    assert [(p.question, p.answer) for p in problems] == [("1+1?", "2"), ("2+2?", "4")]
    assert note == f"dropped: 2 rows ask a question again with the same answer ({path}:3 after {path}:1)"


def test_two_answers_to_a_question_name_both_lines(tmp_path: Path) -> None:
    """Nobody knows which is right: neither is trained on, and that is an error unless rows may be left out."""
    path = jsonl(tmp_path / "data.jsonl", *numbered(3), {"question": " 1+1? ", "answer": "3"})
    says = f"{path}:4: asks the same question as {path}:2 with another answer: '2' there, '3' here; neither is taken"
    with pytest.raises(DataError) as refused:
        read(path)
    assert str(refused.value) == f"{says}\nCorrect them, or leave them out with --data.bad-rows 1."
    problems, notes = problems_of(read_file(path), {}, str(path), bad_rows=1)
    assert [p.question for p in problems] == ["0+0?", "2+2?"]
    assert notes == [f"left out: {says}"]


def test_answers_taken_as_text_are_compared_as_text(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", {**GOOD, "answer": "null"}, {**GOOD, "answer": "Null"}, *numbered(1))
    problems, notes = problems_of(read_file(path), {}, str(path), bad_rows=1, as_text=True)
    assert [p.answer for p in problems] == ["0"]
    assert "'null' there, 'Null' here" in notes[0]


# ------------------------------------------------------------------------------------------- columns


def test_columns_are_found_under_their_usual_names_or_as_told(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.jsonl", {"prompt": "1+1?", "solution": "It is \\boxed{2}.", "grade": "Level 4"})
    (usual,) = read(path)
    assert (usual.answer, usual.level, usual.solution) == ("2", 1, "It is \\boxed{2}.")
    (told,) = read(path, {"answer": "solution", "level": "grade"})
    assert (told.answer, told.level, told.solution) == ("2", 4, None)
    (turned,) = read(path, {"question": "solution", "answer": "prompt"})
    assert (turned.question, turned.answer, turned.solution) == ("It is \\boxed{2}.", "1+1?", None)


def test_a_solution_without_a_marked_answer_is_not_taken_for_one(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "data.jsonl", {"problem": "1+1?", "solution": "\\boxed{2}"}, {"problem": "?", "solution": "2"}
    )
    with pytest.raises(DataError, match=r"data\.jsonl:2: solution: holds no .*--data\.columns answer=solution"):
        read(path)


@pytest.mark.parametrize(
    ("columns", "missing"),
    [({}, "question or problem or prompt"), ({"question": "tsak"}, "tsak"), ({"level": "x"}, "x")],
)
def test_missing_columns_are_named_beside_those_there_are(tmp_path: Path, columns: dict, missing: str) -> None:
    path = jsonl(tmp_path / "data.jsonl", {"task": "1+1?", "answer": 2})
    with pytest.raises(DataError, match=rf"no column {missing}.*; its columns are answer, task\. Say which") as refused:
        read(path, columns)
    assert len(str(refused.value).splitlines()) == 1


# ------------------------------------------------------------------------------------------- CSV


def write_csv(path: Path, *rows: list[str], encoding: str = "utf-8") -> Path:
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_csv_values_stay_text(tmp_path: Path) -> None:
    rows = [
        ["question", " answer ", "level", "solution"],
        ["Which agent?", "007", "2", ""],
        ["Which value,\nif any?", "None", "", "Look\nthere."],
        [],
        ["Which one?", "NA", "Level 3", ""],
        ["½?", "1,200", "1", ""],
    ]
    path = write_csv(tmp_path / "data.csv", *rows, encoding="utf-8-sig")
    found = read(path)
    assert [(p.answer, p.level) for p in found] == [("007", 2), ("None", 1), ("NA", 3), ("1,200", 1)]
    assert found[1].question == "Which value,\nif any?"
    assert found[1].solution == "Look\nthere.\nThe answer is $\\boxed{None}$."


def test_csv_lines_are_counted_through_line_breaks_in_fields(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", ["question", "answer"], ["a\nb\nc?", "1"], ["d?", ""], ["e?", "1", "2"])
    with pytest.raises(DataError, match=r"data\.csv:5: answer: .*\n.*data\.csv:6: has 3 fields, the header has 2"):
        read(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "holds no problems"),
        (b"question,answer\n", "holds no problems"),
        (b"question;answer\n1+1?;2\n", "columns are separated by semicolons; save it with commas"),
        (b"question\tanswer\n1+1?\t2\n", "columns are separated by tabs"),
        (b"question,answer,answer\nq,1,2\n", "names the column 'answer' more than once"),
        (
            b"task,answer\nq,1\n",
            "no column question or problem or prompt or messages or .*; its columns are answer, task",
        ),
        (b'question,answer\nq,1\n"q,2\nr,3\n', r"data\.csv:3: not valid CSV: unexpected end of data"),
        ("question,answer\nq,1\ncafé?,2\n".encode("latin-1"), r"data\.csv:3: not UTF-8 text; save the file as UTF-8"),
        ("question,answer\nq,1\n".encode("utf-16"), r"data\.csv:1: not UTF-8 text"),
    ],
)
def test_csv_files_that_are_refused(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(text)
    with pytest.raises(DataError, match=complaint):
        read(path)


# ------------------------------------------------------------------------------------------- Parquet


def test_parquet_is_read(tmp_path: Path) -> None:
    rows = [
        {"question": "1+1?", "answer": Decimal("2"), "level": 3.0},
        {"question": "2?", "answer": None, "level": None},
    ]
    with pytest.raises(DataError, match=r"data\.parquet, row 2: answer: should be text or a number, got None"):
        read(parquet(tmp_path / "data.parquet", *rows))
    (one,) = read(parquet(tmp_path / "data.parquet", rows[0]))
    assert (one.answer, one.level) == ("2", 3)
    with pytest.raises(DataError, match=r"data\.parquet, row 1: answer: should be text"):
        read(parquet(tmp_path / "data.parquet", {"question": "when?", "answer": datetime.date(2024, 1, 1)}))


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "data.parquet", GOOD)
    with pytest.raises(DataError, match=r"data\.parquet: cannot be read as Parquet"):
        read(path)
    with pytest.raises(DataError, match="holds no problems"):
        read(parquet(tmp_path / "data.parquet"))


# ------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "none.jsonl",
            r"^data\.source: no file none\.jsonl; .* as OWNER/NAME, or what is made here: tiny, sums",
        ),
        ("none", r"^data\.source: no file none"),
        ("my/deep/none", r"^data\.source: no file my/deep/none"),
        ("notes.txt", r"notes\.txt should be a \.jsonl, \.json, \.csv, \.parquet file"),
        ("one.jsonl, none.csv", r"no file none\.csv"),
        ("one.jsonl,folder", "folder is a folder; give one folder alone"),
        ("folder", r"folder: holds no .* files"),
    ],
)
def test_places_that_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, complaint: str) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(Path("one.jsonl"), GOOD)
    Path("notes.txt").write_text("1+1=2")
    Path("folder").mkdir()
    with pytest.raises(DataError, match=complaint):
        load_problems(DataConfig(source=source))


def questions(problems: list[Problem]) -> set[str]:
    return {p.question for p in problems}


def test_several_files_and_a_file_of_test_problems(tmp_path: Path) -> None:
    one = jsonl(tmp_path / "one.jsonl", *numbered(16))
    two = parquet(tmp_path / "two.parquet", *numbered(16, 16))
    test = write_csv(
        tmp_path / "test.csv", ["question", "answer"], *[[r["question"], r["answer"]] for r in numbered(6, 30)]
    )
    found = load_problems(DataConfig(source=f"{one}, {two}", test_source=str(test)))
    assert questions(found.test) == questions(read(test))
    assert questions(found.train) | questions(found.validation) == {r["question"] for r in numbered(30)}
    assert len(found.validation) == 30 // 8
    assert "2 training problems that are also test problems are left out" in found.notes


@pytest.mark.parametrize(("name", "value"), [("split", "train"), ("test_split", "test"), ("subset", "main")])
def test_a_file_has_no_splits(tmp_path: Path, name: str, value: str) -> None:
    path = jsonl(tmp_path / "data.jsonl", *numbered(16))
    with pytest.raises(DataError, match=rf"^data\.{name}: .*; leave it out"):
        load_problems(DataConfig.model_validate({"source": str(path), name: value}))


def hub_folder(top: Path) -> Path:
    """A data set as it is downloaded from the Hub."""
    parquet(top / "main" / "train-00000-of-00002.parquet", *numbered(16))
    parquet(top / "main" / "train-00001-of-00002.parquet", *numbered(16, 16))
    parquet(top / "main" / "test-00000-of-00001.parquet", *numbered(5, 100))
    parquet(top / "socratic" / "train-00000-of-00001.parquet", *numbered(40, 200))
    jsonl(top / "dataset_infos.json", b"{", b"}")
    parquet(top / ".cache" / "train-0.parquet", *numbered(40, 300))
    return top


@pytest.mark.parametrize("named", [{}, {"split": "train", "test_split": "test"}])
def test_a_folder_from_the_hub_keeps_its_splits(tmp_path: Path, named: dict) -> None:
    folder = str(hub_folder(tmp_path))
    found = load_problems(DataConfig(source=folder, subset="main", **named))
    assert questions(found.train + found.validation) == {r["question"] for r in numbered(32)}
    assert questions(found.test) == {r["question"] for r in numbered(5, 100)}
    both = load_problems(DataConfig(source=folder))
    assert questions(both.train + both.validation) == {r["question"] for r in numbered(32) + numbered(40, 200)}


def test_a_folder_without_a_test_split_holds_some_out(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", *numbered(32))
    jsonl(tmp_path / "training_notes.jsonl", *numbered(8, 100))
    found = load_problems(DataConfig(source=str(tmp_path)))
    assert (len(found.train), len(found.validation), len(found.test)) == (24, 4, 4)
    with pytest.raises(DataError, match=r"no file of the split exam; there are train\.jsonl, training_notes"):
        load_problems(DataConfig(source=str(tmp_path), test_split="exam"))


def test_a_folder_of_plain_files_is_all_of_them(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", *numbered(16))
    jsonl(tmp_path / "deeper.jsonl", *numbered(16, 16))
    found = load_problems(DataConfig(source=str(tmp_path)))
    assert len(found.train + found.validation + found.test) == 32


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_a_downloaded_data_set_needs_no_columns(tmp_path: Path, write: Callable[..., Path]) -> None:
    """MATH as it is: the answer is the last box of the solution."""
    row = {
        "problem": "$1+1$?",
        "level": "Level 5",
        "type": "Algebra",
        "solution": "\\boxed{1} + \\boxed{1} = \\boxed{2}.",
    }
    (one,) = read(write(tmp_path / ("data.jsonl" if write is jsonl else "data.parquet"), row))
    assert (one.answer, one.level, one.solution) == ("2", 5, row["solution"])
