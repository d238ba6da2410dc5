"""The real llama.cpp, from PyPI: its converter as the source of llama-cpp-python carries it, and its engine.

`python -m support.llama_cpp FILE.gguf QUESTION ...`, with the packages of `fetch` on the path, prints what is in the
file and what it answers, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

SOURCE = "llama-cpp-python==0.3.36"
PACKAGES = ("xllamacpp==2026.10.11549", "gguf==0.19.0", "sentencepiece==0.2.3")
MOST_TOKENS = 40


def fetch(folder: Path) -> tuple[Path, Path]:
    """llama.cpp's folder, and one with packages to put on the path. Raises CalledProcessError where PyPI has not."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    packages = folder / "packages"
    subprocess.run([*pip, "install", "--no-deps", "--target", packages, *PACKAGES], check=True, capture_output=True)
    only = ["download", "--no-deps", "--no-binary", SOURCE.split("==")[0], "--dest", folder, SOURCE]
    subprocess.run([*pip, *only], check=True, capture_output=True)
    (archive,) = folder.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as tar:
        inside = [m for m in tar.getmembers() if "/vendor/llama.cpp/" in m.name and m.name.endswith((".py", "LICENSE"))]
        tar.extractall(folder, members=inside, filter="data")
    archive.unlink()
    return next(folder.glob("llama_cpp_python-*/vendor/llama.cpp")), packages


def answer(file: str, questions: list[str]) -> dict[str, object]:
    """The chat template in a GGUF file; and greedy answers by llama.cpp, as the lengths of prompts and as tokens."""
    import xllamacpp
    from gguf import GGUFReader

    fields = GGUFReader(file).fields
    told = {name: fields[name].contents() for name in ("general.name", "tokenizer.ggml.pre", "tokenizer.chat_template")}
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel, settings.use_jinja = file, 1024, 1, True
    settings.verbosity = 0
    # threads spin while they wait for each other, which takes minutes where the cores are busy
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server, answers = xllamacpp.Server(settings), []
    for question in questions:
        wanted = {"temperature": 0, "max_tokens": MOST_TOKENS, "logprobs": True, "cache_prompt": False}
        said = server.handle_chat_completions({"messages": [{"role": "user", "content": question}], **wanted})
        tokens = [token["id"] for token in said["choices"][0]["logprobs"]["content"]]
        answers.append({"prompt_tokens": said["usage"]["prompt_tokens"], "tokens": tokens})
    return {**told, "answers": answers}


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1], sys.argv[2:])))
