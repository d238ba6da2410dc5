"""Folders of files: which split each file is of, what `datasets` has saved, and what is not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support.row_files import write

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem
from expo_lite.problems import load_problems
from expo_lite.problems.folders import files_in


def numbered(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"{i}+{i}?", "answer": str(2 * i)} for i in range(start, start + count)]


def questions(problems: list[Problem]) -> set[str]:
    return {problem.question for problem in problems}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("my_train.parquet", "my_test.parquet"),
        ("Train.jsonl", "Test.jsonl"),
        ("TRAIN.jsonl", "TEST.jsonl"),
        ("Train/0.jsonl", "Test/0.jsonl"),
        ("gsm8k-train-00000-of-00001.parquet", "gsm8k-test-00000-of-00001.parquet"),
        ("data.train.jsonl", "data.test.jsonl"),
        ("MathTrain.jsonl", "mathTest.jsonl"),
        ("train2.jsonl", "test2.jsonl"),
        ("test-of-time/train.jsonl", "test-of-time/test.jsonl"),
    ],
)
def test_a_split_is_a_word_of_the_name(tmp_path: Path, train: str, test: str) -> None:
    """No test problem is ever trained on."""
    write(tmp_path / train, *numbered(32))
    write(tmp_path / test, *numbered(8, 100))
    found = load_problems(DataConfig(source=str(tmp_path)))
    assert questions(found.test) == {row["question"] for row in numbered(8, 100)}
    assert questions(found.train + found.validation) == {row["question"] for row in numbered(32)}


@pytest.mark.parametrize(
    "names",
    [
        ("mathtrain.jsonl", "mathtest.jsonl"),
        ("problems.jsonl", "testset.jsonl"),
        ("amc.jsonl", "testing.jsonl"),
        ("a/trainset.jsonl", "b/tests.jsonl"),
    ],
)
def test_names_that_only_hint_at_a_split_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path / name, *numbered(16))
    with pytest.raises(DataError, match=r"may be of a split, .* data\.test_source for the others\.$") as refused:
        files_in(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("names", [("contest.jsonl", "contests2.jsonl"), ("trained.csv",), ("a.jsonl", "b.csv.gz")])
def test_other_names_have_no_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path / name, *numbered(16))
    assert files_in(tmp_path) == {tmp_path / name: None for name in names}


def test_a_given_split_comes_before_the_usual_ones(tmp_path: Path) -> None:
    for name, start in (("train_easy", 0), ("train_hard", 100), ("test", 200)):
        write(tmp_path / f"{name}.jsonl", *numbered(32, start))
    found = load_problems(DataConfig(source=str(tmp_path), split="train_hard"))
    assert questions(found.train + found.validation) == {row["question"] for row in numbered(32, 100)}
    assert "not read, for their names do not say test or train_hard: train_easy.jsonl" in found.notes


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    for name in ("train", "test", "validation", "notes"):
        write(tmp_path / f"{name}.jsonl", *numbered(32, 100 * len(name)))
    notes = load_problems(DataConfig(source=str(tmp_path))).notes
    assert "not read, for their names do not say test or train: notes.jsonl, validation.jsonl" in notes
    other = write(tmp_path.parent / "other.jsonl", *numbered(8, 900))
    notes = load_problems(DataConfig(source=str(tmp_path), test_source=str(other))).notes
    assert "not read, for their names do not say train: notes.jsonl, test.jsonl, validation.jsonl" in notes


def test_what_describes_a_data_set_is_no_data(tmp_path: Path) -> None:
    for name in ("dataset_info.json", "dataset_infos.json"):
        (tmp_path / name).write_text('{\n"splits": {}}')
    write(tmp_path / "data.jsonl", *numbered(32))
    assert files_in(tmp_path) == {tmp_path / "data.jsonl": None}


# ------------------------------------------------------------------------------------------- save_to_disk


def saved(folder: Path, rows: list[dict[str, Any]], shards: int = 1, like_a_file: bool = False) -> None:
    """As `datasets` saves them: shards of Arrow streams, listed in state.json."""
    folder.mkdir(parents=True)
    names = [f"data-{shard:05}-of-{shards:05}.arrow" for shard in range(shards)]
    for shard, name in enumerate(names):
        table = pyarrow.Table.from_pylist(rows[shard::shards])
        new = pyarrow.ipc.new_file if like_a_file else pyarrow.ipc.new_stream
        with new(str(folder / name), table.schema) as file:
            file.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


@pytest.mark.parametrize(("shards", "like_a_file"), [(1, False), (3, False), (2, True)])
def test_a_saved_data_set_is_read(tmp_path: Path, shards: int, like_a_file: bool) -> None:
    saved(tmp_path / "set", numbered(32), shards, like_a_file)
    (tmp_path / "set" / "cache-0123.arrow").write_bytes(b"left by datasets.map")
    (tmp_path / "set" / "data-00000-of-00009.arrow").write_bytes(b"left by an earlier save")
    found = load_problems(DataConfig(source=str(tmp_path / "set")))
    assert questions(found.train + found.validation + found.test) == {row["question"] for row in numbered(32)}


def test_a_saved_dictionary_of_data_sets_keeps_its_splits(tmp_path: Path) -> None:
    saved(tmp_path / "set" / "train", numbered(32))
    saved(tmp_path / "set" / "test", numbered(8, 100))
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    found = load_problems(DataConfig(source=str(tmp_path / "set")))
    assert questions(found.test) == {row["question"] for row in numbered(8, 100)}
    assert questions(found.train + found.validation) == {row["question"] for row in numbered(32)}


@pytest.mark.slow
def test_what_datasets_itself_saves(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": numbered(32), "test": numbered(8, 100)}
    whole = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in parts.items()})
    shuffled = whole["train"].shuffle(seed=1).select(range(16))
    whole.save_to_disk(tmp_path / "all")
    shuffled.save_to_disk(tmp_path / "some", num_shards=2)
    found = load_problems(DataConfig(source=str(tmp_path / "all")))
    assert len(found.train + found.validation) == 32 and len(found.test) == 8
    found = load_problems(DataConfig(source=str(tmp_path / "some")))
    assert questions(found.train + found.validation + found.test) == set(shuffled["question"])
