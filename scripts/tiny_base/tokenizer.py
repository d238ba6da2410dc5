"""The tiny world's tokenizer: a Qwen2 tokenizer with one token per digit, sign or phrase, and a chat template.

It is a real `Qwen2Tokenizer` because transformers loads that class for every qwen2 model, whatever class
the folder names: a word-level tokenizer saved beside a qwen2 model comes back without its phrases.
"""

from __future__ import annotations

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer

from expo_lite.problems import tiny_world

PAD, UNKNOWN, END, USER, ASSISTANT = "<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>"
NEWLINE = "Ċ"  # how byte-level BPE writes a line break
SIGNS = (*"0123456789", "+", "=", ".", "?", NEWLINE)
PHRASES = (
    tiny_world.QUESTION_START,
    " The correct answer is ",
    " Explain why.",
    tiny_world.ANSWER_START,
    tiny_world.ANSWER_END,
    tiny_world.EXPERT_START,
    tiny_world.LEAK_FIRST,
    tiny_world.LEAK_MIDDLE,
    tiny_world.LEAK_LAST,
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer() -> Qwen2Tokenizer:
    """The tokenizer as saved beside the base; it serves to build, everything else loads it with AutoTokenizer.

    Characters that it does not know are dropped, so "What is 12 + 34?" reads as "What is 12+34?".
    """
    tokens = (PAD, UNKNOWN, END, USER, ASSISTANT, *SIGNS, *PHRASES)
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])  # type: ignore[arg-type]
    return tokenizer
