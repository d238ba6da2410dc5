"""What a policy computes, whichever backend it came from: `python backend_numbers.py BACKEND ADAPTER FILE`.

A program of its own, since Unsloth patches the process that it is imported into. It imports what a run imports, in
the same order, and writes the numbers of the shipped base under every kind of loading, named, into FILE.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from expo_lite.config.settings import PolicyConfig
from expo_lite.model.unsloth import import_early

KINDS: dict[str, dict[str, Any]] = {
    "nf4": {},
    "nf4, checkpointed": {"gradient_checkpointing": True},
    "float32": {"quantization": "none"},
    "bfloat16": {"quantization": "none", "dtype": "bfloat16"},
}


def numbers(config: PolicyConfig) -> dict[str, Any]:
    """Log-probabilities, entropies, gradients and completions of one policy, before and after it has generated."""
    import torch

    from expo_lite.memory.live import LiveUnits
    from expo_lite.model.policy import load_policy
    from expo_lite.model.sampler import Sampler, SampleRequest

    fresh = load_policy(config.model_copy(update={"adapter": None}), 3, 80)
    policy = load_policy(config, 0, 80)
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(3, 32, (3, 40), generator=generator)  # (B, T), rows of 40, 25 and 14 tokens
    positions = torch.tensor([40 * row + t for row, length in enumerate((40, 25, 14)) for t in range(5, length - 1)])
    targets, temperature = input_ids.flatten()[positions + 1], torch.full((len(positions),), 0.7)

    def scores() -> tuple[torch.Tensor, torch.Tensor]:
        return policy.completion_logprobs(input_ids, positions, targets, temperature, 16)

    def gradients() -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(scores()[0].sum(), policy.trainable)])

    def completions(**how: bool) -> list[list[int]]:
        requests = [SampleRequest([3, 7, 9, 12], 3, ("s",)), SampleRequest([5, 6, 7, 8, 9, 10, 11], 4, ("t",))]
        written = Sampler(policy, LiveUnits(5, 8192, 64)).sample(requests, 30, **how)  # rows are dropped and expanded
        return [completion.completion_ids for group in written for completion in group]

    logprobs, entropies = scores()
    found = {"logprobs": logprobs.detach(), "entropies": entropies, "gradients": gradients()}
    found |= {"greedy": completions(greedy=True), "sampled": completions(), "gradients afterwards": gradients()}
    with policy.reference(), torch.no_grad():
        found |= {"reference": scores()[0], "greedy reference": completions(greedy=True)}
    found["fresh adapter"] = torch.cat([p.detach().flatten() for p in fresh.trainable])
    found["trainable"] = sorted({str(p.dtype) for p in policy.trainable})
    return found | {"end ids": policy.end_ids, "training": policy.model.training}


def main(backend: str, adapter: str, file: str) -> None:
    """Write the numbers of every kind of loading into `file`."""
    configs = {
        kind: PolicyConfig.model_validate({"backend": backend, "device": "cpu", "adapter": adapter, **settings})
        for kind, settings in KINDS.items()
    }
    import_early(configs["nf4"])
    import torch

    torch.set_num_threads(1)
    torch.save({kind: numbers(config) for kind, config in configs.items()}, Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
