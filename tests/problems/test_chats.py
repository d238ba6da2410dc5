"""Chats of several turns as TRL, verl, OpenAI and ShareGPT write them, as problems; and those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support.row_files import write

from expo_lite.config.settings import DataConfig
from expo_lite.core.errors import DataError
from expo_lite.core.records import Problem, Turn
from expo_lite.problems import load_problems
from expo_lite.problems.columns import problems_of
from expo_lite.problems.files import read_file

SYSTEM, ASKED, SAID = ("system", "Be brief."), ("user", "What is 1+2?"), ("assistant", "3.")
AGAIN, SOLVED = ("user", "And times 4?"), ("assistant", "3*4=12, so $\\boxed{12}$.")
TURNS = (Turn(*SYSTEM), Turn(*ASKED), Turn(*SAID))


def chat(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def share_gpt(*turns: tuple[str, str]) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[role], "value": content} for role, content in turns]


def parts(*texts: str) -> list[dict[str, Any]]:
    """OpenAI's content; in a column of Parquet every part has every part's fields."""
    return [{"type": "text", "text": text, "image_url": None} for text in texts]


WHOLE = (SYSTEM, ASKED, SAID, AGAIN)
SCHEMAS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "TRL's prompt": ({"prompt": chat(*WHOLE), "answer": "12"}, {}),
    "TRL's prompt and completion": (
        {"prompt": chat(*WHOLE), "completion": chat(SOLVED)},
        {"answer": "completion", "solution": "completion"},
    ),
    "the Hub's messages": ({"messages": chat(*WHOLE), "answer": "12"}, {}),
    "messages with a reply": ({"messages": chat(*WHOLE, SOLVED)}, {}),
    "messages with a reply and an answer": ({"messages": chat(*WHOLE, SOLVED), "answer": "12"}, {}),
    "another name": ({"talk": chat(*WHOLE), "target": "12"}, {"question": "talk", "answer": "target"}),
    "a field": ({"more": {"chat": chat(*WHOLE)}, "answer": "12"}, {"question": "more.chat"}),
    "OpenAI's parts": ({"messages": chat(*((role, parts(text)) for role, text in WHOLE)), "answer": "12"}, {}),
    "ShareGPT": ({"conversations": share_gpt(*WHOLE, SOLVED)}, {}),
    "verl": ({"prompt": chat(*WHOLE), "reward_model": {"style": "rule", "ground_truth": "12"}}, {}),
}


def read(path: Path, columns: dict[str, str] | None = None, **settings: Any) -> list[Problem]:
    return problems_of(read_file(path), columns or {}, str(path), **settings)[0]


@pytest.mark.parametrize("name", ["data.parquet", "data.jsonl"])
@pytest.mark.parametrize(("row", "columns"), SCHEMAS.values(), ids=SCHEMAS)
def test_schemas(tmp_path: Path, name: str, row: dict[str, Any], columns: dict[str, str]) -> None:
    path = write(tmp_path / name, row)
    (problem,) = read(path, columns)
    assert (problem.turns, problem.question, problem.answer) == (TURNS, AGAIN[1], "12")
    assert problem.solution == (SOLVED[1] if "boxed" in str(row) else None)


def test_parquet_holds_lists_of_structs(tmp_path: Path) -> None:
    """As `datasets` writes them, so that the test above reads the real thing."""
    path = write(tmp_path / "data.parquet", SCHEMAS["TRL's prompt"][0])
    turns = pyarrow.parquet.read_schema(path).field("prompt").type
    assert pyarrow.types.is_list(turns) and pyarrow.types.is_struct(turns.value_type)


def test_parts_are_joined(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": chat(("user", parts("What is ", "1+2?"))), "answer": 3})
    assert read(path)[0].question == "What is 1+2?"


def test_a_reply_is_taken_as_it_stands_where_answers_are_text(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": chat(ASKED, ("assistant", " three "))})
    (problem,) = read(path, as_text=True)
    assert problem.answer == "three" and problem.columns["messages"] == chat(ASKED, ("assistant", " three "))


def test_a_column_of_solutions_goes_before_the_reply(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": chat(ASKED, SAID), "answer": "3", "solution": "1+2=3"})
    assert read(path)[0].solution == "1+2=3\nThe answer is $\\boxed{3}$."


def test_a_row_with_a_question_of_its_own_is_read_by_that(tmp_path: Path) -> None:
    """NuminaMath has problem, solution and messages."""
    row = {"problem": "1+2?", "solution": "$\\boxed{3}$", "messages": chat(("user", "1+2?"), SAID)}
    (problem,) = read(write(tmp_path / "data.jsonl", row))
    assert (problem.question, problem.answer, problem.turns) == ("1+2?", "3", ())


def test_an_instruction_for_another_form_is_seen_in_any_turn(tmp_path: Path) -> None:
    other = ("system", 'Output the final answer after "####".')
    path = write(tmp_path / "data.jsonl", {"prompt": chat(other, ASKED), "answer": "3"})
    (note,) = problems_of(read_file(path), {}, str(path))[1]
    assert note.startswith("1 questions ask for the answer after ####") and "Output the final answer" in note


# ------------------------------------------------------------------------------------------- identity


def test_other_turns_make_another_problem(tmp_path: Path) -> None:
    """The same last turn after others: neither a repetition nor a contradiction."""
    five = ("user", "What is 2+3?"), ("assistant", "5.")
    rows = [
        {"prompt": chat(ASKED, SAID, AGAIN), "answer": "12"},
        {"prompt": chat(*five, AGAIN), "answer": "20"},
        {"prompt": chat(SYSTEM, ASKED, SAID, AGAIN), "answer": "12"},
        {"prompt": chat(AGAIN), "answer": "none"},
        {"prompt": chat(("user", " What  is 1+2?"), SAID, AGAIN), "answer": "12"},
    ]
    problems, (note,) = problems_of(read_file(path := write(tmp_path / "data.jsonl", *rows)), {}, "data")
    assert [p.answer for p in problems] == ["12", "20", "12", "none"] and len({p.id for p in problems}) == 4
    assert note == f"dropped: 1 row asks a question again with the same answer ({path}:5 after {path}:1)"


def test_turns_are_not_confused_with_each_other(tmp_path: Path) -> None:
    """Where one ends and who says it is part of what is asked."""
    rows = [
        {"prompt": chat(("user", "a"), ("user", "b"), ("user", "c")), "answer": "1"},
        {"prompt": chat(("user", "a b"), ("user", "c")), "answer": "2"},
        {"prompt": chat(("assistant", "a b"), ("user", "c")), "answer": "3"},
    ]
    assert [p.answer for p in read(write(tmp_path / "data.jsonl", *rows))] == ["1", "2", "3"]


def test_the_same_chat_with_another_answer_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": chat(*WHOLE), "answer": str(answer)} for answer in (12, 13)]
    with pytest.raises(
        DataError, match=r"data\.jsonl:2: asks the same question as .*data\.jsonl:1 with another answer"
    ):
        read(write(tmp_path / "data.jsonl", *rows))


def test_a_chat_of_one_turn_is_the_question_as_text(tmp_path: Path) -> None:
    """One name for both, as before: what is held out is held out in either form."""
    rows = [{"prompt": chat(ASKED), "answer": "3"}, {"prompt": ASKED[1], "answer": "3"}]
    (problem,) = read(write(tmp_path / "data.jsonl", *rows))
    assert problem == Problem(problem.id, ASKED[1], "3")


def rows_of_chats(count: int = 32) -> list[dict[str, Any]]:
    return [{"prompt": chat(("user", f"Take {n}."), SAID, AGAIN), "answer": "12"} for n in range(count)]


def test_chats_are_held_out_and_digested(tmp_path: Path) -> None:
    source = str(write(tmp_path / "data.jsonl", *rows_of_chats()))
    found = load_problems(DataConfig(source=source))
    assert [len(found.train), len(found.validation), len(found.test)] == [24, 4, 4]
    assert not {p.id for p in found.train} & {p.id for p in (*found.validation, *found.test)}
    assert load_problems(DataConfig(source=source)).digest() == found.digest()
    text = Path(source).read_text()
    Path(source).write_text(text.replace("Take 7.", "Take  7."))  # another text with the same name
    assert load_problems(DataConfig(source=source)).digest() != found.digest()


# ------------------------------------------------------------------------------------------- what is refused

IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "a.png"}}]
CALL = [{**chat(SAID)[0], "tool_calls": [{"function": {"name": "add"}}]}]
REFUSED: dict[str, tuple[Any, str]] = {
    "a tool": (chat(ASKED, ("tool", "3"), AGAIN), r"turn 2 has the role 'tool'; only system, user, assistant are read"),
    "no role": ([{"content": "q"}], "turn 1 has the role None"),
    "a role of a wrong type": (chat((["user"], "q")), r"turn 1 has the role \['user'\]"),
    "ShareGPT's tool": ([{"from": "observation", "value": "3"}], "turn 1 has the role 'observation'"),
    "ShareGPT's wrong type": ([{"from": {}, "value": "3"}], r"turn 1 has the role \{\}"),
    "a call": ([*chat(ASKED), *CALL, *chat(AGAIN)], r"turn 2 \(assistant\) calls a tool"),
    "an empty turn": (
        chat(ASKED, ("assistant", " "), AGAIN),
        r"turn 2 \(assistant\) should be non-empty text, got ' '",
    ),
    "no text": (chat(("user", None)), r"turn 1 \(user\) should be non-empty text, got None"),
    "a number": (chat(("user", 3)), r"turn 1 \(user\) should be non-empty text, got 3"),
    "no parts": (chat(("user", [])), r"turn 1 \(user\) should be non-empty text, got \[\]"),
    "a picture": (chat(("user", IMAGE)), r"turn 1 \(user\) holds a part of type 'image_url'; only parts of text"),
    "half a part": (chat(("user", [{"type": "text"}])), r"turn 1 \(user\) holds a part of type 'text'"),
    "half a surrogate": (chat(("user", "q\ud800")), "turn 1: holds half a surrogate pair"),
    "a late system": (chat(ASKED, SYSTEM, AGAIN), "turn 2 is the system's, which should come first"),
    "the system alone": (chat(SYSTEM), "should end with a turn of the user, .* got a chat of system"),
    "no user": (chat(SYSTEM, SAID), "should end with a turn of the user, .* got a chat of system, assistant"),
    "two replies": (chat(ASKED, SAID, SAID), "should end with .* got a chat of user, assistant, assistant"),
    "no turns": ([], r"should be text or a list of turns, got \[\]"),
    "texts": (["q"], r"should be text or a list of turns, got \['q'\]"),
    "one turn without its list": (chat(ASKED)[0], "should be text or a list of turns, got {'role'"),
}


@pytest.mark.parametrize(("prompt", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_by_line(tmp_path: Path, prompt: Any, says: str) -> None:
    path = write(tmp_path / "data.jsonl", {"prompt": chat(ASKED), "answer": "3"}, {"prompt": prompt, "answer": "3"})
    with pytest.raises(DataError, match=rf"data\.jsonl:2: prompt:? ?.*{says}"):
        read(path)
    assert len(read(path, bad_rows=1)) == 1


def test_a_reply_that_does_not_mark_its_answer(tmp_path: Path) -> None:
    path = write(
        tmp_path / "data.jsonl", {"messages": chat(ASKED, SOLVED)}, {"messages": chat(AGAIN, ("assistant", "7"))}
    )
    with pytest.raises(DataError, match=r"data\.jsonl:2: messages: holds no .* \(mark it there, or name a column"):
        read(path)


def test_a_chat_without_a_reply_among_some_with_one(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": chat(ASKED, SOLVED)}, {"messages": chat(AGAIN)})
    with pytest.raises(DataError, match=r"data\.jsonl:2: messages: ends with no turn of the assistant"):
        read(path)


def test_chats_without_replies_need_a_column_of_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": chat(*WHOLE)})
    with pytest.raises(DataError, match=r"no column answer or solution; its columns are messages"):
        read(path)


def test_a_completion_is_one_turn(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"prompt": chat(ASKED), "completion": chat(AGAIN, SOLVED)})
    with pytest.raises(
        DataError, match=r"completion: should be text or one turn of the assistant, got .* user, assistant"
    ):
        read(path, {"answer": "completion"})


def test_a_file_of_one_chat_is_one_problem(tmp_path: Path) -> None:
    """Not taken for all problems in one list."""
    assert len(read(write(tmp_path / "data.jsonl", {"conversations": share_gpt(*WHOLE, SOLVED)}))) == 1
