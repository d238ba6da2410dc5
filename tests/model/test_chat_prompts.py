"""Problems with earlier turns, rendered; held against what apply_chat_template makes of the plain list of messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.small_hub import tokenizer
from transformers import PreTrainedTokenizerBase

from expo_lite.config.settings import PromptConfig
from expo_lite.core.errors import ConfigError, DataError
from expo_lite.core.records import Problem, Turn
from expo_lite.model.prompts import Prompts
from expo_lite.problems import ProblemSet
from expo_lite.runs.assemble import with_short_prompts

TASK = PromptConfig(task="{question} Box it.", hinted="{question} It is {answer}.")
EARLIER = (Turn("user", "What is 1+2?"), Turn("assistant", "3."))
PLAIN = Problem("p", "And times 4?", "12", where="data.jsonl:7")
CHAT = replace(PLAIN, turns=EARLIER)
OWN = replace(PLAIN, turns=(Turn("system", "Be brief."), *EARLIER))

# Parts of real templates: what they refuse, and what they leave out without a word.
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + m['content'] + '<|im_end|>' }}{% endfor %}"
)  # Mistral-7B-Instruct-v0.2, Gemma
DROPPING = (
    "{% for m in messages %}{% if (m['role'] == 'user') %}{{ '<|user|>' + m['content'] + '<|end|>' }}"
    "{% elif (m['role'] == 'assistant') %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
)  # Phi-3-mini's first


@pytest.fixture
def words() -> PreTrainedTokenizerBase:
    """Of Qwen2.5's kind, whose template has a system role."""
    return tokenizer()


def rendered(words: PreTrainedTokenizerBase, *turns: tuple[str, str]) -> list[int]:
    chat = [{"role": role, "content": content} for role, content in turns]
    return words.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]  # type: ignore[index,return-value]


BEFORE = (("user", "What is 1+2?"), ("assistant", "3."))
ASKED, TOLD = ("user", "And times 4? Box it."), ("user", "And times 4? It is 12.")


@pytest.mark.parametrize(
    ("problem", "system", "before"),
    [
        (PLAIN, None, ()),
        (CHAT, None, BEFORE),
        (OWN, None, (("system", "Be brief."), *BEFORE)),
        (CHAT, "Be kind.", (("system", "Be kind."), *BEFORE)),
        (OWN, "Be kind.", (("system", "Be brief."), *BEFORE)),
        (replace(PLAIN, turns=OWN.turns[:1]), "Be kind.", (("system", "Be brief."),)),
    ],
    ids=["plain", "chat", "own system", "prompt.system", "own instead of prompt.system", "system alone"],
)
def test_the_prompt_is_that_of_the_messages(
    words: PreTrainedTokenizerBase, problem: Problem, system: str | None, before: tuple[tuple[str, str], ...]
) -> None:
    """Earlier turns stand as they are; what the prompts add goes to the last turn alone."""
    prompts = Prompts(words, TASK.model_copy(update={"system": system}))
    task, hinted = rendered(words, *before, ASKED), rendered(words, *before, TOLD)
    assert (prompts.task(problem), prompts.hinted(problem)) == (task, hinted)
    assert [*prompts.lengths([problem])] == [max(len(task), len(hinted))]


def test_the_limit_counts_every_turn(words: PreTrainedTokenizerBase) -> None:
    prompts = Prompts(words, TASK)
    limit = max(prompts.lengths([PLAIN]))
    kept = with_short_prompts(ProblemSet([CHAT, PLAIN], [PLAIN], [OWN, PLAIN]), prompts, limit)
    assert (kept.train, kept.test) == ([PLAIN], [PLAIN]) and kept.notes[0].startswith("2 problems with prompts of more")


def test_turns_that_the_template_refuses_are_named(words: PreTrainedTokenizerBase) -> None:
    """Each by its line, the first few of many; the chats that it takes are rendered."""
    words.chat_template = ALTERNATING
    prompts = Prompts(words, TASK)
    assert prompts.task(CHAT) == rendered(words, *BEFORE, ASKED)
    twice = replace(PLAIN, turns=EARLIER[:1])
    said = (
        r"^data\.jsonl:7: the chat template of policy\.model cannot render these turns \(user, user\): Conversation "
        r"roles must alternate user/assistant/user/assistant/\.\.\.\nCorrect or leave out such rows, or name a model"
    )
    for ask in (prompts.task, prompts.hinted, lambda p: [*prompts.lengths([CHAT, p])]):
        with pytest.raises(DataError, match=said):
            ask(twice)
    many = [replace(OWN, where=f"data.jsonl:{n}") for n in range(200)]
    with pytest.raises(DataError) as raised:
        list(prompts.lengths([CHAT, *many]))
    first, *_, more, advice = str(raised.value).splitlines()
    assert first.startswith("data.jsonl:0: ") and "(system, user, assistant, user)" in first
    assert more == "and 195 more" and advice.startswith("Correct")


def test_a_system_turn_that_would_be_lost_is_refused(words: PreTrainedTokenizerBase) -> None:
    words.chat_template = DROPPING
    prompts = Prompts(words, TASK)
    assert prompts.task(CHAT) == rendered(words, *BEFORE, ASKED)
    for ask in (prompts.task, prompts.hinted, lambda p: [*prompts.lengths([p])]):
        with pytest.raises(
            DataError, match=r"^data\.jsonl:7: .*\(system, .*\): it takes no notice of a system message"
        ):
            ask(OWN)
    with pytest.raises(ConfigError, match=r"^prompt\.system: the chat template of policy\.model takes no notice"):
        Prompts(words, TASK.model_copy(update={"system": "Be kind."}))
