"""The sizes of a model that memory depends on; those of common models are known without a download."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expo_lite.config.model_files import SMOL, model_source
from expo_lite.core.errors import ConfigError


@dataclass(frozen=True)
class ModelShape:
    """A decoder with gated MLPs and grouped-query attention, as Qwen and Llama have it."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    tied: bool
    attention_bias: bool = False
    qk_norm: bool = False

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    @property
    def layer_matrices(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers of one block: q, k, v, o, gate, up, down."""
        h, q, kv, m = self.hidden, self.query_width, self.kv_width, self.mlp
        return [(h, q), (h, kv), (h, kv), (q, h), (h, m), (h, m), (m, h)]

    @property
    def linear_parameters(self) -> int:
        """Parameters of all linear layers but the head: what is quantised."""
        return self.layers * sum(rows * columns for rows, columns in self.layer_matrices)

    @property
    def other_parameters(self) -> int:
        """Embedding, head if it is not tied, norms and biases: what stays in 16 bit."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        # Norms before attention, before the MLP and at the end; in some families of queries and keys too.
        norms = self.hidden * (2 * self.layers + 1) + (2 * self.head_dim * self.layers if self.qk_norm else 0)
        biases = self.layers * (self.query_width + 2 * self.kv_width) if self.attention_bias else 0
        return embeddings + norms + biases

    def lora_parameters(self, rank: int) -> int:
        """Parameters of LoRA matrices of `rank` on every linear layer but the head."""
        return self.layers * sum(rank * (rows + columns) for rows, columns in self.layer_matrices)


def _shape(name: str, *sizes: int, tied: bool = True, bias: bool = False, qk_norm: bool = False) -> ModelShape:
    return ModelShape(name, *sizes, tied=tied, attention_bias=bias, qk_norm=qk_norm)


# Layers, hidden, heads, KV heads, head width, MLP width, vocabulary; from the models' public config.json.
KNOWN = {
    shape.name: shape
    for shape in (
        _shape("Qwen/Qwen2.5-0.5B-Instruct", 24, 896, 14, 2, 64, 4864, 151936, bias=True),
        _shape("Qwen/Qwen2.5-1.5B-Instruct", 28, 1536, 12, 2, 128, 8960, 151936, bias=True),
        _shape("Qwen/Qwen2.5-3B-Instruct", 36, 2048, 16, 2, 128, 11008, 151936, bias=True),
        _shape("Qwen/Qwen2.5-7B-Instruct", 28, 3584, 28, 4, 128, 18944, 152064, tied=False, bias=True),
        _shape("Qwen/Qwen3-4B", 36, 2560, 32, 8, 128, 9728, 151936, qk_norm=True),
        _shape("Qwen/Qwen3-8B", 36, 4096, 32, 8, 128, 12288, 151936, tied=False, qk_norm=True),
        _shape("meta-llama/Llama-3.2-1B-Instruct", 16, 2048, 32, 8, 64, 8192, 128256),
        _shape("meta-llama/Llama-3.2-3B-Instruct", 28, 3072, 24, 8, 128, 8192, 128256),
        _shape(SMOL, 30, 576, 9, 3, 64, 1536, 49152),
    )
}


QK_NORM = ("qwen3", "olmo2", "gemma3_text")  # families that norm queries and keys
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # in config.json of mixtures of experts


def shape_from_config(name: str, config: dict[str, Any]) -> ModelShape:
    """The shape that a model's config.json describes. Raises ConfigError for another kind of model.

    Families have other names for a size; MLPs without a gate, as in GPT-2, are counted as if they had one: such a plan
    is on the safe side.
    """
    if found := [key for key in EXPERTS if config.get(key)]:
        raise unplannable(name, f"has {found[0]}")

    def size(*names: str, otherwise: int | None = None) -> int:
        found = next((config[n] for n in names if config.get(n)), otherwise)
        if found is None:
            raise KeyError(names[0])
        return int(found)

    try:
        heads, hidden = size("num_attention_heads", "n_head"), size("hidden_size", "n_embd")
        return ModelShape(
            name=name,
            layers=size("num_hidden_layers", "n_layer"),
            hidden=hidden,
            heads=heads,
            kv_heads=size("num_key_value_heads", "num_kv_heads", otherwise=heads),
            head_dim=size("head_dim", otherwise=hidden // heads),
            mlp=size("intermediate_size", "n_inner", "ffn_hidden_size", "ffn_dim", otherwise=4 * hidden),
            vocabulary=config["vocab_size"],
            tied=config.get("tie_word_embeddings", True),
            attention_bias=config.get("attention_bias", config.get("model_type") == "qwen2"),
            qk_norm=config.get("model_type") in QK_NORM,
        )
    except KeyError as missing:
        raise unplannable(name, f"has no {missing}") from None


def unplannable(name: str, why: str) -> ConfigError:
    """What is said of a model whose config.json describes another kind."""
    return ConfigError(f"policy.model: {name}: its config.json {why}; memory is planned for dense decoders only")


def is_here(model: str) -> bool:
    """Whether the model's shape is known without the Hub."""
    return model in KNOWN or (Path(model_source(model)) / "config.json").is_file()


def find_shape(model: str) -> ModelShape:
    """The shape of a common model, of one saved in a local folder, or of one whose config.json the Hub gives.

    Raises ConfigError where it cannot be found out.
    """
    if model in KNOWN:
        return KNOWN[model]
    path = Path(model_source(model)) / "config.json"
    if path.parent.exists() and not path.is_file():
        raise ConfigError(f"policy.model: {model} is no folder with a saved model: there is no config.json in it")
    if not path.is_file():
        from huggingface_hub import hf_hub_download  # late: it is slow to import, and most models need no download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(model, "config.json"))
        except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise ConfigError(
                f"policy.model: cannot load {model!r}: there is no such folder with a config.json, and the Hub does "
                f"not give it here: {str(error).splitlines()[0]}"
            ) from None
    try:
        return shape_from_config(model, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"policy.model: {path} cannot be read: {error}") from None
