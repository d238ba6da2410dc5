"""The tiny world's tokenizer: one token per digit, sign or phrase, with a chat template."""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from expo_lite.tiny import world

SPECIAL = ("<pad>", "<unk>", "<|end|>", "<|user|>", "<|assistant|>")
SIGNS = (*"0123456789", "+", "=", ".", "?", "\n")
PHRASES = (
    world.QUESTION_START,
    " The correct answer is ",
    " Explain why.",
    world.ANSWER_START,
    world.ANSWER_END,
    world.EXPERT_START,
    world.LEAK_FIRST,
    world.LEAK_MIDDLE,
    world.LEAK_LAST,
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as saved next to the base; use it only to build, then load it with AutoTokenizer."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *SIGNS, *PHRASES))}
    words = sorted((*SIGNS, *PHRASES), key=len, reverse=True)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    # "12 + 34" is what people type; the base has seen "12+34" only.
    tokenizer.normalizer = normalizers.Replace(Regex(r" *\+ *"), "+")
    pattern = Regex("|".join(map(re.escape, words)) + "|.")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
