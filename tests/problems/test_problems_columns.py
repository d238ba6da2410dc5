"""Columns of other makers: fields inside of a column, chats, and columns that cannot be read but need not be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support.row_files import write

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.problems import load_problems
from expo_lite.problems.columns import problems_of
from expo_lite.problems.files import read_file

ASKS = 'Let\'s think step by step and output the final answer after "####".'


def verl(i: int, **extra: Any) -> dict[str, Any]:
    """A row as verl's scripts for GSM8K and MATH write it."""
    return {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": f"{i}+{i}? {ASKS}"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(2 * i)},
        "extra_info": {"split": "train", "index": i, **extra},
    }


def gsm8k(i: int) -> dict[str, Any]:
    return verl(i, question=f"{i}+{i}?", answer=f"Twice {i}.\n#### {2 * i}")


@pytest.mark.parametrize("name", ["data.parquet", "data.jsonl"])
def test_verls_columns_are_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, gsm8k(1), gsm8k(2))
    (one, two), notes = problems_of(read_file(path), {}, str(path))
    assert (one.question, one.answer, one.solution) == ("1+1?", "2", None)
    assert (two.question, two.answer, notes) == ("2+2?", "4", [])
    (one, _), _ = problems_of(read_file(path), {"solution": "extra_info.answer"}, str(path))
    assert one.solution == "Twice 1.\nThe answer is $\\boxed{2}$."


@pytest.mark.parametrize("name", ["data.parquet", "data.jsonl"])
def test_a_chat_of_one_turn_is_a_question(tmp_path: Path, name: str) -> None:
    """What it says about the answer's form stays in it, which is said."""
    path = write(tmp_path / name, verl(1), verl(2), gsm8k(3))
    (one, *_), (note,) = problems_of(read_file(path), {}, str(path))
    assert (one.question, one.answer) == (f"1+1? {ASKS}", "2")
    assert note.startswith(r"3 questions ask for the answer after #### or the like, but the verifier reads \boxed{}")


def test_a_field_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", gsm8k(1), {**gsm8k(2), "reward_model": None})
    with pytest.raises(DataError, match=r"no column reward_model\.truth; its columns are ability, .*, reward_model"):
        problems_of(read_file(path), {"answer": "reward_model.truth"}, str(path))
    with pytest.raises(DataError, match=r"data\.jsonl:2: reward_model\.ground_truth: should be text or a number"):
        problems_of(read_file(path), {"answer": "reward_model.ground_truth"}, str(path))


def test_a_column_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"my.question": "1+1?", "answer": 2, "my": {"question": "other"}})
    (one,), _ = problems_of(read_file(path), {"question": "my.question"}, str(path))
    assert one.question == "1+1?"


def test_a_solution_that_is_the_answer_alone_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"question": "1+1?", "answer": "2", "solution": "2"})
    assert problems_of(read_file(path), {}, str(path))[0][0].solution is None


# ------------------------------------------------------------------------------------------- Parquet

BROKEN_TEXT = pyarrow.Array.from_buffers(
    pyarrow.utf8(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
)


@pytest.mark.parametrize("broken", [BROKEN_TEXT, pyarrow.array([2**62], pyarrow.timestamp("us"))], ids=["text", "time"])
def test_a_column_that_is_not_used_may_hold_anything(tmp_path: Path, broken: pyarrow.Array) -> None:
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["1+1?"], "answer": ["2"], "more": broken}), path)
    ((one,), _) = problems_of(read_file(path), {}, str(path))
    assert (one.question, one.answer) == ("1+1?", "2")
    with pytest.raises(DataError, match=r"data\.parquet, row 1: more: "):  # a reward function is handed every column
        problems_of(read_file(path), {}, str(path), as_text=True)


def test_only_the_columns_that_are_used_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = pyarrow.parquet.ParquetFile.read
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile, "read", lambda file, columns: asked.extend(columns) or read(file, columns)
    )
    path = write(tmp_path / "data.parquet", {**gsm8k(1), "image": "x" * 1000})
    problems_of(read_file(path), {}, str(path))
    assert sorted(asked) == ["extra_info", "reward_model"]


# ------------------------------------------------------------------------------------------- gzip, long texts, numbers


@pytest.mark.parametrize("name", ["data.jsonl.gz", "DATA.JSON.GZ", "data.csv.gz", "data.jsonl"])
def test_gzipped_text_is_read(tmp_path: Path, name: str) -> None:
    """Also where the name does not say it."""
    rows = [{"question": f"{i}+{i}?", "answer": str(2 * i)} for i in range(32)]
    lines = [f"{row['question']},{row['answer']}" for row in rows] if "csv" in name else map(json.dumps, rows)
    text = "\n".join(["question,answer", *lines] if "csv" in name else lines)
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    found = load_problems(DataConfig(source=str(tmp_path / name)))
    assert len(found.train + found.validation + found.test) == 32


def test_a_field_of_csv_may_be_long(tmp_path: Path) -> None:
    long = "1+" * 100_000 + "1?"
    (tmp_path / "data.csv").write_text(f"question,answer\n{long},100001\n2?,2\n")
    problems, _ = problems_of(read_file(tmp_path / "data.csv"), {}, "data.csv")
    assert [len(p.question) for p in problems] == [len(long), 2]
    (tmp_path / "data.csv").write_text(f"question,answer\n2?,2\n1?,{long}\n")
    with pytest.raises(DataError, match=r"data\.csv:3: answer: should be a final answer, got a text of 200002"):
        problems_of(read_file(tmp_path / "data.csv"), {}, "data.csv")


def test_a_number_may_be_larger_than_a_float(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "2^1000?", "answer": 1' + "0" * 400 + "}")
    assert problems_of(read_file(path), {}, str(path))[0][0].answer == "1" + "0" * 400
