"""Builders that tests share: a tiny random policy, configurations, problems with known groups, a scripted sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from expo_lite.config.settings import Config, PolicyConfig
from expo_lite.core.progress import OnProgress, silent
from expo_lite.core.records import Completion
from expo_lite.grading.judge import Judge
from expo_lite.grading.verifier import Verifier
from expo_lite.memory.live import LiveUnits
from expo_lite.model.grouped_attention import decode_grouped
from expo_lite.model.policy import Policy, add_adapter, load_policy
from expo_lite.model.prompts import Prompts
from expo_lite.model.ranks import ALONE
from expo_lite.model.sampler import SampleRequest
from expo_lite.training.explainer import Explainer
from expo_lite.training.step import Trainer
from expo_lite.training.updater import Updater
from scripts.tiny_base.tokenizer import build_tokenizer

CUT = " (cut)"
"""At the end of a scripted text: this completion did not end by itself."""


def tiny_base(seed: int = 0) -> Qwen2ForCausalLM:
    """A random Qwen2 model with 2 layers that fits the tiny world's tokenizer, with the attention of a loaded one."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,  # far from uniform distributions
        eos_token_id=build_tokenizer().eos_token_id,
        tie_word_embeddings=True,
    )
    base = Qwen2ForCausalLM(config)
    decode_grouped(base)
    return base


def tiny_policy(seed: int = 0) -> Policy:
    """An unquantised float32 policy whose adapter is not zero, so that it matters."""
    policy = add_adapter(tiny_base(seed), build_tokenizer(), PolicyConfig(quantization="none", lora_rank=4), seed)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy


def tiny_config(**settings: Any) -> Config:
    """The tiny preset's prompts, and settings such as `objective__loss="dapo"`."""
    values: dict[str, Any] = {
        "prompt": {"task": "{question}", "hinted": "{question} The correct answer is {answer}. Explain why."},
        "rollout": {"group_size": 2, "max_new_tokens": 24},
        "optimizer": {"max_grad_norm": 1e6},
    }
    for name, value in settings.items():
        section, _, field = name.partition("__")
        if field:
            values.setdefault(section, {})[field] = value
        else:
            values[section] = value
    return Config.model_validate(values)


class GradientRecorder(torch.optim.SGD):
    """SGD that keeps each step's gradient as one vector; by default it does not move."""

    def __init__(self, policy: Policy, learning_rate: float = 0.0) -> None:
        super().__init__(policy.trainable, lr=learning_rate)
        self.policy = policy
        self.gradients: list[Tensor] = []

    def step(self, closure: Any = None) -> None:
        self.gradients.append(torch.cat([p.grad.flatten().clone() for p in self.policy.trainable]))
        super().step(closure)


def tiny_trainer(
    config: Config,
    policy: Policy,
    sampler: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
    judge: Judge | None = None,
) -> Trainer:
    """A trainer with the real explainer and, unless another judge is given, the real verifier.

    `sampler` is usually a `ScriptedSampler`.
    """
    optimizer, judge = optimizer or GradientRecorder(policy), judge or Verifier()
    prompts = Prompts(policy.tokenizer, config.prompt)
    explainer = Explainer(config, sampler, prompts, judge)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    memory = config.memory
    sizes = live_units(tokens=memory.micro_batch_tokens or 8192, chunk=memory.logprob_chunk or 1024)
    updater = Updater(config, policy, sizes, optimizer, scheduler)
    return Trainer(config, sampler, prompts, judge, explainer, updater)


def live_units(rollouts: int = 64, tokens: int = 8192, chunk: int = 1024) -> LiveUnits:
    """Sizes to work with."""
    return LiveUnits(rollouts, tokens, chunk)


def adapter_vector(policy: Policy) -> Tensor:
    """All adapter values as one vector."""
    return torch.cat([p.detach().flatten().clone() for p in policy.trainable])


def written(tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], text: str) -> Completion:
    """`text` as a completion: finished, unless it ends with `CUT`."""
    finished = not text.endswith(CUT)
    text = text.removesuffix(CUT)
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], *([tokenizer.eos_token_id] if finished else [])]
    return Completion(prompt_ids, ids, [-1.0] * len(ids), finished, text)


class ScriptedSampler:
    """Returns the texts that `script` holds for ("rollout" | "explanation" | "evaluation", problem id).

    `requests` records what was asked for.
    """

    def __init__(self, policy: Policy, script: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self.policy = policy
        self.units = live_units()
        self.read = Tensor.tolist
        self.ranks = ALONE
        self.script = script
        self.requests: list[SampleRequest] = []

    def sample(
        self,
        requests: Sequence[SampleRequest],
        max_new_tokens: int,
        temperature: float = 1.0,
        greedy: bool = False,
        on_progress: OnProgress = silent,
    ) -> list[list[Completion]]:
        self.requests += requests
        completions = []
        for request in requests:
            texts = self.script[str(request.stream[1]), str(request.stream[-1])]
            assert len(texts) == request.count, f"the script holds {len(texts)} texts, {request.count} are asked for"
            completions.append([written(self.policy.tokenizer, request.prompt_ids, text) for text in texts])
        return completions


ARCHITECTURES: dict[str, tuple[Any, Any]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


def save_base(folder: Path, architecture: str = "qwen2", seed: int = 0, **settings: Any) -> Path:
    """A random model, 2 layers of 64 wide (so that 4-bit blocks fit), saved with its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    make_config, make_model = ARCHITECTURES[architecture]
    shape: dict[str, Any] = {
        "vocab_size": 32,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,  # far from uniform distributions
        "eos_token_id": tokenizer.eos_token_id,
    }
    model = make_model(make_config(**shape | settings))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # Qwen2's start at 0, where they would hide a mistake
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_base_of_another_family(folder: Path, name: str) -> Path:
    """A random model of a family whose config.json has other names than Llama's, saved with the same tokenizer."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    common = {"vocab_size": 32, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.eos_token_id}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {
        "gpt2": lambda: GPT2Config(n_embd=64, n_layer=2, n_head=4, **common),
        "neox": lambda: GPTNeoXConfig(intermediate_size=128, **sizes, **common),
        "opt": lambda: OPTConfig(ffn_dim=128, word_embed_proj_dim=64, pad_token_id=0, **sizes, **common),
        "bloom": lambda: BloomConfig(hidden_size=64, n_layer=2, n_head=4, pad_token_id=0, **common),
    }[name]()
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def nf4_policy(folder: Path, seed: int = 0, **settings: Any) -> Policy:
    """A saved base in 4 bit, loaded as a run loads it, with an adapter that is not zero."""
    policy = load_policy(PolicyConfig(model=str(folder), device="cpu", lora_rank=4, **settings), seed)
    torch.manual_seed(seed)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy
