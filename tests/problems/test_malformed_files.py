"""Files that cannot be used, one fault each: a sentence that names file and line, status 2, and nothing is touched."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from expo_lite.commands.train import main

GOOD = [{"question": f"{i}+{i}?", "answer": str(2 * i)} for i in range(32)]
CHAT = [{"role": "user", "content": "1+1?"}, {"role": "tool", "content": "2"}]


def lines(*rows: Any) -> bytes:
    """Good rows as JSON lines, and `rows` from line 33 on."""
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in [*GOOD, *rows])


def bad_row(**values: Any) -> bytes:
    return lines({"question": "q?", "answer": "1", **values})


def table(columns: dict[str, Any], name: str = "data.parquet") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.joinpath(name).parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / name)

    return write


def column(count: int, last: Any) -> list[Any]:
    return [*[f"{i}" for i in range(count)], last]


BROKEN_TEXT = pyarrow.Array.from_buffers(
    pyarrow.utf8(), 2, [None, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pyarrow.py_buffer(b"1\xff\xfe")]
)
"""A column of text whose second value is not UTF-8."""
FAR_AWAY = pyarrow.array([None, 2**62], pyarrow.timestamp("us"))
"""A column of timestamps whose second value is past what Python can hold."""


def cut_off_parquet(folder: Path) -> None:
    table({"question": column(3000, "q?"), "answer": column(3000, "1")})(folder)
    whole = (folder / "data.parquet").read_bytes()
    (folder / "data.parquet").write_bytes(whole[: len(whole) // 2])


def scrambled_parquet(folder: Path) -> None:
    """Its end, which says what is where, is sound; its pages are not."""
    table({"question": column(3000, "q?"), "answer": column(3000, "1")})(folder)
    whole = bytearray((folder / "data.parquet").read_bytes())
    whole[4:2000] = b"\xa5" * 1996
    (folder / "data.parquet").write_bytes(whole)


def cut_off_gzip(folder: Path) -> None:
    whole = gzip.compress(lines())
    (folder / "data.jsonl.gz").write_bytes(whole[: len(whole) // 2])


def train_and_test_in_one_word(folder: Path) -> None:
    (folder / "set").mkdir()
    for name in ("mathtrain", "mathtest"):
        (folder / "set" / f"{name}.jsonl").write_bytes(lines())


def two_splits_in_one_name(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "train_and_test.jsonl").write_bytes(lines())


def saved_with_a_shard_missing(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "data-00000-of-00002.arrow").write_bytes(b"ARROW1")
    files = [{"filename": f"data-0000{i}-of-00002.arrow"} for i in range(2)]
    (folder / "set" / "state.json").write_text(json.dumps({"_data_files": files}))


def saved_and_torn(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff\x10\0\0\0")
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "set" / "state.json").write_text(json.dumps({"_data_files": files}))


def saved_with_a_torn_list(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "data-00000-of-00001.arrow").write_bytes(b"")
    (folder / "set" / "state.json").write_text('{"_data_files": [{"filena')


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "data.jsonl")


def name_that_is_no_text(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(lines())


TEXT = {
    "half a line": ("data.jsonl", lines(b'{"question": "q?", "ans'), r"data\.jsonl:33: not valid JSON"),
    "not UTF-8": ("data.jsonl", lines(b'{"question": "\xe9?", "answer": "1"}'), r"data\.jsonl:33: not UTF-8 text"),
    "UTF-16": ("data.jsonl", lines().decode().encode("utf-16"), r"data\.jsonl:1: not UTF-8 text but UTF-16; save"),
    "UTF-16, unmarked": ("data.jsonl", lines().decode().encode("utf-16-le"), r"data\.jsonl:1: .*UTF-16"),
    "UTF-32": ("data.csv", "question,answer\nq,1\n".encode("utf-32"), r"data\.csv:1: not UTF-8 text but UTF-32"),
    "ZIP": ("data.csv", b"PK\x03\x04" + b"\xa5" * 99, r"data\.csv: is a ZIP archive or an Excel workbook; "),
    "zstd": ("data.jsonl", b"\x28\xb5\x2f\xfd" + b"\xa5" * 99, r"data\.jsonl: is compressed by zstd; unpack it"),
    "Parquet by another name": ("data.jsonl", b"PAR1" + b"\xa5" * 99, r"data\.jsonl: is a Parquet file; name it"),
    "web page": ("data.csv", b"\n<!DOCTYPE html><html>", r"data\.csv: is a web page"),
    "Git LFS": ("data.jsonl", b"version https://git-lfs.github.com/spec/v1\noid", r"data\.jsonl: .*`git lfs pull`"),
    "gzip by name only": ("data.csv.gz", b"question;answer\nq;1\n", r"data\.csv\.gz: its columns are separated by"),
    "one document": ("data.json", json.dumps(GOOD).encode(), r"data\.json: is one JSON document"),
    "a list for a row": ("data.jsonl", lines(["q?", "1"]), r"data\.jsonl:33: should be an object"),
    "a key twice": (
        "data.jsonl",
        lines(b'{"question": "q?", "answer": "1", "answer": "2"}'),
        r'data\.jsonl:33: names the key "answer" twice',
    ),
    "a key twice inside": (
        "data.jsonl",
        lines(b'{"question": "q?", "answer": "1", "more": {"a": 1, "a": 1}}'),
        r'data\.jsonl:33: names the key "a" twice',
    ),
    "brackets": ("data.jsonl", lines(b"[" * 100_000), r"data\.jsonl:33: not usable JSON"),
    "no answer": ("data.jsonl", lines({"question": "q?"}), r"data\.jsonl:33: answer: "),
    "NaN": ("data.jsonl", bad_row(answer=float("nan")), r"data\.jsonl:33: answer: .*nan"),
    '"NaN"': ("data.jsonl", bad_row(answer="NaN"), r"data\.jsonl:33: answer: .*'NaN'"),
    '"null"': ("data.jsonl", bad_row(answer="$\\boxed{null}$"), r"data\.jsonl:33: answer: .*null"),
    "NaN in CSV": ("data.csv", b"question,answer\n1+1?,2\nq?,nan\n", r"data\.csv:3: answer: .*'nan'"),
    "not applicable": ("data.csv", b"question,answer\n1+1?,2\nq?,N/A\n", r"data\.csv:3: answer: .*'N/A'"),
    "to do": ("data.jsonl", bad_row(answer="TODO"), r"data\.jsonl:33: answer: .*'TODO'"),
    "a dash": ("data.jsonl", bad_row(answer="-"), r"data\.jsonl:33: answer: .*'-'"),
    "empty": ("data.jsonl", bad_row(answer=" "), r"data\.jsonl:33: answer: "),
    "surrogate in the question": ("data.jsonl", bad_row(question="q\ud800"), r"data\.jsonl:33: question: .*surrogate"),
    "surrogate in the answer": ("data.jsonl", bad_row(answer="1\ud800"), r"data\.jsonl:33: answer: .*surrogate"),
    "surrogate in the solution": ("data.jsonl", bad_row(solution="\ud800"), r"data\.jsonl:33: solution: .*surrogate"),
    "another answer": (
        "data.jsonl",
        lines({"question": " 7+7?", "answer": "15"}),
        r"data\.jsonl:33: asks the same question as .*data\.jsonl:8 with another answer: '14' there, '15' here",
    ),
    "prose after ####": (
        "data.jsonl",
        bad_row(answer="#### Step 2: add them up\nand so 5"),
        r"data\.jsonl:33: answer: .*several lines",
    ),
    "prose below": ("data.jsonl", bad_row(answer="5\n\nChecked by hand."), r"data\.jsonl:33: answer: .*several lines"),
    "a sentence": (
        "data.jsonl",
        bad_row(answer="The answer is 5 because two and three make that."),
        r"data\.jsonl:33: answer: .*sentence",
    ),
    "several answers": ("data.jsonl", bad_row(answer='["1", "2"]'), r"data\.jsonl:33: answer: .*list"),
    "a tool in a chat": ("data.jsonl", bad_row(question=CHAT), r"data\.jsonl:33: question: turn 2 has the role 'tool'"),
    "a chat as text": ("data.csv", b"prompt,answer\n\"[{'role': 'user'}]\",2\n", r"data\.csv:2: prompt"),
    "an answer without bounds": ("data.jsonl", bad_row(answer="1 + " * 999), r"data\.jsonl:33: answer: .*characters"),
    "a field without an end": ("data.csv", b'question,answer\n1+1?,2\n"q?,' + b"1" * 140_000, r"data\.csv:3: not v"),
    "too many fields": ("data.csv", b"question,answer\n1+1?,2\nq?,1,2\n", r"data\.csv:3: has 3 fields"),
    "a column twice": ("data.csv", b"question,answer,answer\nq?,1,2\n", r"data\.csv: the first line names the column"),
    "no rows": ("data.jsonl", b"", r"data\.jsonl: holds no problems"),
}  # fmt: skip
MADE = {
    "cut-off gzip": (cut_off_gzip, "data.jsonl.gz", r"data\.jsonl\.gz: is damaged or cut off"),
    "cut-off Parquet": (cut_off_parquet, "data.parquet", r"data\.parquet: cannot be read as Parquet"),
    "scrambled Parquet": (scrambled_parquet, "data.parquet", r"data\.parquet: cannot be read as Parquet"),
    "Parquet with a column twice": (
        lambda folder: pyarrow.parquet.write_table(
            pyarrow.Table.from_arrays([pyarrow.array(["1"])] * 2, ["answer", "answer"]), folder / "data.parquet"
        ),
        "data.parquet",
        r"data\.parquet: names the column 'answer' more than once",
    ),
    "Parquet with invalid UTF-8": (
        table({"question": ["1+1?", "q?"], "answer": BROKEN_TEXT}),
        "data.parquet",
        r"data\.parquet, row 2: answer: .*UTF-8",
    ),
    "Parquet with a far timestamp": (
        table({"question": ["1+1?", "q?"], "answer": ["2", "1"], "level": FAR_AWAY}),
        "data.parquet",
        r"data\.parquet, row 2: level: ",
    ),
    "Parquet with dates": (
        table({"question": ["1?"], "answer": [datetime.date(2024, 1, 1)]}),
        "data.parquet",
        r"data\.parquet, row 1: answer: ",
    ),
    "a pipe": (pipe, "data.jsonl", r"data\.source: data\.jsonl is a device or a pipe"),
    "a device": (lambda _: None, "/dev/null", r"data\.source: /dev/null is a device or a pipe"),
    "a long name": (lambda _: None, "a" * 5000 + ".jsonl", r"data\.source: no file a{9}"),
    "a long name on the Hub": (lambda _: None, "a/" + "b" * 5000, r"data\.source: no file a/b{9}"),
    "nobody's home": (lambda _: None, "~nobody-here/data.jsonl", r"data\.source: no file ~nobody-here/data\.jsonl"),
    "a name that is no text": (name_that_is_no_text, os.fsdecode(b"caf\xe9.jsonl"), r"data\.source: .*rename"),
    "train and test in one word": (train_and_test_in_one_word, "set", r"set: mathtest\.jsonl, mathtrain\.jsonl .*"),
    "two splits in one name": (two_splits_in_one_name, "set", r"train_and_test\.jsonl: .*train and test"),
    "a shard is missing": (saved_with_a_shard_missing, "set", r"data-00001-of-00002\.arrow"),
    "a torn shard": (saved_and_torn, "set", r"data-00000-of-00001\.arrow: cannot be read as Arrow"),
    "a torn list of shards": (saved_with_a_torn_list, "set", r"state\.json: "),
}  # fmt: skip


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a training in this process and return the one line with which it ends, leaving all files as they were."""
    monkeypatch.chdir(tmp_path)

    def contents() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    def run(source: str) -> str:
        before = contents()
        assert main(["--preset", "tiny", "--run", "mine", "--data.source", source]) == 2
        assert contents() == before
        shown = capsys.readouterr()
        assert all(line.startswith("Memory plan: ") for line in shown.out.splitlines())
        return shown.err.rstrip("\n")

    return run


def one_sentence(message: str, says: str) -> None:
    first, *advice = message.splitlines()
    assert re.search(says, first), message
    assert all(line.startswith("Correct them, or leave them out") for line in advice)
    assert len(first) < 500 and "Traceback" not in message


@pytest.mark.parametrize(("name", "content", "says"), TEXT.values(), ids=TEXT)
def test_a_text_file(tmp_path: Path, refused: Callable[..., str], name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    one_sentence(refused(name), says)


@pytest.mark.parametrize(("make", "source", "says"), MADE.values(), ids=MADE)
def test_a_file_of_another_kind(
    tmp_path: Path, refused: Callable[..., str], make: Callable[[Path], None], source: str, says: str
) -> None:
    make(tmp_path)
    one_sentence(refused(source), says)
