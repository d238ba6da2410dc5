"""prompt.examples: what is read, from where, and what is said of what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from expo_lite.config.dotted import replaced
from expo_lite.config.flags import as_flags
from expo_lite.config.read import dump_yaml, read_config, read_request
from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError
from expo_lite.problems.values import text_in

ONE = {"question": "1+1?", "solution": "So \\boxed{2}.\nDone: \\boxed{3}."}
OTHER = {"question": "No box?", "solution": "none", "answer": 7}
FOUND = [{**ONE, "answer": "3"}, {**OTHER, "answer": "7"}]
YAML = r"""
- question: 1+1?
  solution: |-
    So \boxed{2}.
    Done: \boxed{3}.
- {question: 'No box?', solution: none, answer: 7}
"""
FORMS = {
    "examples.json": json.dumps([ONE, OTHER]),
    "examples.jsonl": f"{json.dumps(ONE)}\n\n{json.dumps(OTHER)}\n",
    "examples.yaml": YAML,
}


def found(config: Config) -> list[dict[str, str]]:
    return [example.model_dump() for example in config.prompt.examples]


@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_any_kind(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name])
    config = read_request(["--preset", "tiny", "--prompt.examples", str(tmp_path / name)]).config
    assert found(config) == FOUND


def test_a_runs_config_holds_the_examples_themselves(tmp_path: Path) -> None:
    """So it stands for itself when the file is edited or gone, and as flags for another process."""
    (tmp_path / "examples.yaml").write_text(YAML)
    (tmp_path / "my.yaml").write_text(f"prompt:\n  examples: {tmp_path / 'examples.yaml'}\n")
    config = read_config(tmp_path / "my.yaml")
    (tmp_path / "examples.yaml").unlink()
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config
    flags = as_flags({"prompt.examples": config.prompt.examples})
    assert read_request(["--preset", "tiny", *flags]).config.prompt.examples == config.prompt.examples
    assert replaced(config, {"steps": 3}).prompt == config.prompt


def test_none_is_the_default_and_can_be_said(tmp_path: Path) -> None:
    assert Config().prompt.examples == ()
    (tmp_path / "my.yaml").write_text("prompt:\n  examples: []\n")
    assert read_config(tmp_path / "my.yaml").prompt.examples == ()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.yaml", None, "none.yaml: there is no such file"),
        ("a.jsonl", '{"question": "1?"}\n{"ques', "a.jsonl:2: not valid JSON"),
        ("a.json", '[\n{"question": }]', "a.json:2: not valid JSON"),
        ("a.yaml", "- question: [\n", "a.yaml:2: expected the node content"),
        ("a.yaml", "- {question: '1?', answer: !!int x}\n", "a.yaml: cannot be read (invalid literal for int()"),
        ("a.yaml", "question: 1?\n", "a.yaml: should be a list of examples like"),
        ("a.yaml", "- question: 1?\n  answer: 3\n", "a.yaml: example 1 has no solution"),
        (
            "a.yaml",
            "- {question: '1?', solution: 'no'}\n",
            "a.yaml: example 1 has no answer, and its solution no \\boxed{}",
        ),
        ("a.yaml", "- {question: '1?', solution: [x], answer: 1}\n", "a.yaml: example 1: its solution should be text"),
        (
            "a.yaml",
            "- {question: '1?', solution: x, answer: 1, hint: 1}\n",
            "a.yaml: example 1 has hint; an example has question",
        ),
        ("a.yaml", "- just words\n", "a.yaml: example 1 should be like"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_request(["--preset", "tiny", "--prompt.examples", str(tmp_path / name)])
    (line,) = str(caught.value).splitlines()
    assert line.startswith("prompt.examples: ") and said in line


def refused(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_request(["--preset", "tiny", *words])
    return str(caught.value).splitlines()


FAULTY = [
    {"solution": "x", "answer": [1], "hint": 2},
    {**ONE, "answer": 2.5},
    "just words",
    {"question": "1?", "solution": "no box"},
]


@pytest.mark.parametrize("form", ["flag", "file"])
def test_every_fault_is_said_at_once(form: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(FAULTY))
    given = str(tmp_path / "a.json") if form == "file" else json.dumps(FAULTY)
    said = refused("--prompt.examples", given, "--steps", "many")
    where = f"prompt.examples: {given}: " if form == "file" else "prompt.examples: "
    expected = [
        "example 1 has hint; an example has question, solution, answer and nothing else",
        "example 1 has no question",
        "example 1: its answer should be text",
        "example 3 should be like {",
        "example 4 has no answer, and its solution no \\boxed{}",
    ]
    assert len(said) == len(expected) + 1 and any(line.startswith("steps: ") for line in said)
    assert all(any(line.startswith(where + words) for line in said) for words in expected)


def test_every_line_that_is_no_json_is_said_and_of_many_faults_a_few(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"quest\n\n{}\n[1\n')
    first, second = refused("--prompt.examples", str(tmp_path / "a.jsonl"))
    assert "a.jsonl:1: not valid JSON" in first and "a.jsonl:4: not valid JSON" in second
    said = refused("--prompt.examples", json.dumps([1] * 20))
    assert len(said) == 11 and said[-1].startswith("prompt.examples: and 10 more")


def test_a_file_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "1?"}')
    (line,) = refused("--prompt.examples", str(tmp_path / "a.jsonl"))
    assert line == f"prompt.examples: {tmp_path / 'a.jsonl'}: example 1 has no solution"


@pytest.mark.parametrize("words", [["a.yaml", "b.yaml"], ["a.yaml,b.yaml"]])
def test_two_files_are_one_too_many(words: list[str]) -> None:
    (line,) = refused("--prompt.examples", *words)
    assert line == "prompt.examples: should be one file, with all examples in it (got ['a.yaml', 'b.yaml'])"


def test_a_number_is_an_answer_as_in_rows_of_data(tmp_path: Path) -> None:
    (tmp_path / "examples.yaml").write_text("- {question: '5/2?', solution: S, answer: 2.5}\n")
    (tmp_path / "examples.json").write_text('[{"question": "5/2?", "solution": "S", "answer": 2.5}]')
    for name in ("examples.yaml", "examples.json"):
        config = read_request(["--preset", "tiny", "--prompt.examples", str(tmp_path / name)]).config
        assert config.prompt.examples[0].answer == "2.5" == text_in(2.5, "answer")
    (tmp_path / "examples.yaml").write_text("- {question: '5/2?', solution: S, answer: .nan}\n")
    (line,) = refused("--prompt.examples", str(tmp_path / "examples.yaml"))
    assert "example 1: its answer should be text" in line


def test_words_of_a_yaml_file_stay_words(tmp_path: Path) -> None:
    """As in settings: only true and false are truth values, and only decimal digits are numbers."""
    answers = ["no", "2:3", "1:30", "010", "0x1F", "0b1", "-7", "1_000"]
    rows = "".join(f"- {{question: Q, solution: S, answer: {answer}}}\n" for answer in answers)
    (tmp_path / "examples.yaml").write_text(rows)
    (tmp_path / "my.yaml").write_text(f"prompt:\n  examples: {tmp_path / 'examples.yaml'}\n")
    read = [example.answer for example in read_config(tmp_path / "my.yaml").prompt.examples]
    assert read == [*answers[:-1], "1000"]
