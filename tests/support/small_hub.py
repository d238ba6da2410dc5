"""What the presets download, small and on this disk: a Hugging Face cache folder that their libraries use offline.

Models have the architecture and the name that a preset gives, one layer, and a byte-level tokenizer. They write a few
random letters, often an answer in a box, and end: of eight attempts sometimes one is right, often none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

ANSWERS = ("1", "2", "3", "4")
PAD, END, OTHER_END, START = "<|endoftext|>", "<|im_end|>", "<|stop|>", "<|im_start|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WIDTH, LOUD = 64, 2.0  # of the hidden states; of their first channel, which is the same for every token
OFTEN = {END: 4.5, OTHER_END: 3.0} | {rf"\boxed{{{answer}}}": 3.0 for answer in ANSWERS}  # added to their logits


def tokenizer() -> Qwen2Tokenizer:
    """A token for each byte, and for what a text needs to end and to be right."""
    letters = sorted(ByteLevel.alphabet())
    made = Qwen2Tokenizer(
        vocab={token: number for number, token in enumerate([PAD, *letters])},
        merges=[],
        pad_token=PAD,
        unk_token=PAD,
        eos_token=END,
        extra_special_tokens=[START, OTHER_END],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    made.add_tokens([AddedToken(token, normalized=False) for token in OFTEN if token.startswith("\\")])
    return made


def save_model(folder: Path, tied: bool) -> None:
    """A Qwen2 model with random weights, as a preset's is saved."""
    words = tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(words) + 5,  # rounded up, as the real ones are
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=32768,
        eos_token_id=words.convert_tokens_to_ids(END),
        tie_word_embeddings=tied,
        initializer_range=0.05,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        ends: list[Any] = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
        for weight in ends:
            weight[:, 0] = LOUD
        for token, more in OFTEN.items():  # the last norm makes of LOUD nearly the root of the width
            ends[1][words.convert_tokens_to_ids(token), 0] = LOUD + more / WIDTH**0.5
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [words.convert_tokens_to_ids(token) for token in (END, OTHER_END)]
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def problems(columns: Iterable[str], split: str, start: int) -> list[dict[str, str]]:
    """Rows with the columns of MATH."""
    rows = []
    for number in range(start, start + (80 if split == "train" else 40)):
        answer = ANSWERS[number % len(ANSWERS)]
        row = {
            "problem": f"How many are {number}?",
            "level": f"Level {1 + number % 5}",
            "type": "Algebra",
            "solution": rf"They are $\boxed{{{answer}}}$.",
        }
        rows.append({column: row[column] for column in columns})
    return rows


def save_set(home: Path, name: str, subset: str, columns: Iterable[str]) -> None:
    """A data set as `datasets` keeps it once it was downloaded."""
    from datasets.packaged_modules.json.json import Json

    files: dict[str, str] = {}
    for number, split in enumerate(("train", "test")):
        file = home / f"{name.replace('/', '_')}-{subset}-{split}.jsonl"
        rows = problems(columns, split, sum(map(ord, subset)) * 1000 + 500 * number)
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        files[split] = str(file)
    maker = Json(
        cache_dir=str(home / "datasets"), dataset_name=name.split("/")[1], config_name=subset, hash="0" * 40,
        repo_id=name, data_files=files,
    )  # fmt: skip
    maker.download_and_prepare()
    made = Path(maker.cache_dir).parents[1]
    made.rename(made.with_name(subset))  # without the digest of local files


def fill(home: Path, models: dict[str, bool], sets: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> None:
    """Make `home` an HF_HOME with models (name -> whether its head is tied) and sets (name -> subsets, columns)."""
    for name, tied in models.items():
        repository = home / "hub" / f"models--{name.replace('/', '--')}"
        save_model(repository / "snapshots" / ("0" * 40), tied)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    for name, (subsets, columns) in sets.items():
        for subset in subsets:
            save_set(home, name, subset, columns)
