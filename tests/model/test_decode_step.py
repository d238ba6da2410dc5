"""The decode step with shapes that stay: the same tokens as the plain one, and nothing in it that a graph cannot hold.

On a CPU it is run anew for each token, not recorded; tests/card/test_card_graphs.py records it on a card's stand-in.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.meta_models import FAMILIES, causal_lm, policy_of
from support.tiny_models import live_units
from torch import Tensor

from expo_lite.core.records import Completion
from expo_lite.model import decode_step
from expo_lite.model import sampler as sampler_module
from expo_lite.model.decode_step import PLAIN, DecodeStep, Graphs, last_states, logits_of
from expo_lite.model.masks import DecodingRows
from expo_lite.model.policy import Policy
from expo_lite.model.sampler import Sampler, SampleRequest

SPAN, TOKENS = 16, 40  # the longest rows look at 16, 32 and 48 columns, at last at all 49 that there are
REQUESTS = [
    SampleRequest([3, 7, 9, 12, 4], 9, ("a",)),
    SampleRequest([3, 5, 11, 6, 8, 20, 25, 10, 4], 8, ("b",)),  # beyond gemma3's and mistral's windows of 6
    SampleRequest([3, 5, 4], 7, ("c",)),
]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_step, "SPAN", SPAN)
    monkeypatch.setattr(sampler_module, "CHECK_EVERY", 2)


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return with_adapter(request.param)


@pytest.fixture(scope="module")
def qwen() -> Policy:
    return with_adapter("qwen2")


def with_adapter(family: str) -> Policy:
    policy = policy_of(causal_lm(family))
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ends = torch.zeros(policy.vocabulary)
    ends[policy.end_ids] = 1.5  # rows end here and there
    policy.head.bias = torch.nn.Parameter(ends, requires_grad=False)
    return policy


def sample(policy: Policy, graphs: Graphs, requests: list[SampleRequest] = REQUESTS) -> list[Completion]:
    written = Sampler(policy, live_units(8), graphs=graphs).sample(requests, TOKENS)
    return [completion for of_request in written for completion in of_request]


def ids(completions: list[Completion]) -> list[list[int]]:
    return [completion.completion_ids for completion in completions]


def noted(monkeypatch: pytest.MonkeyPatch, made: Callable[..., Any] | None = None) -> Counter[tuple[int, int]]:
    """Counts (rows, columns) of every step that is made; `made` is what it becomes."""
    found: Counter[tuple[int, int]] = Counter()
    recorded = DecodeStep._recorded

    def noting(self: DecodeStep, columns: int) -> Callable[[], Tensor]:
        found[len(self.tokens), columns] += 1
        step = recorded(self, columns)
        return made(self, step) if made else step

    monkeypatch.setattr(DecodeStep, "_recorded", noting)
    return found


def test_the_same_tokens_with_rows_that_follow_and_rows_that_go(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sample(policy, PLAIN)
    assert len({len(tokens) for tokens in ids(plain)}) > 3 and any(c.finished for c in plain)
    steps, graphs = noted(monkeypatch), Graphs()
    ours = sample(policy, graphs)
    assert graphs.usable and graphs.proven
    assert ids(ours) == ids(plain)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(torch.tensor(a.logprobs), torch.tensor(b.logprobs), atol=1e-5, rtol=0)
    assert set(steps.values()) == {1}, "each is made once"
    assert {columns for rows, columns in steps if rows == 8} >= {16, 32}
    assert len({rows for rows, _ in steps}) > 1, "ended rows were dropped"


def test_it_is_one_graph_without_breaks(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recording needs: no look at a value, no shape that depends on one."""
    traced: list[Any] = []
    gaps: list[float] = []

    def backend(graph: Any, _: Any) -> Any:
        traced.append(graph)
        return graph.forward

    def compiled(step: DecodeStep, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        in_one = torch.compile(run, fullgraph=True, dynamic=False, backend=backend)

        def both() -> Tensor:
            ours, theirs = (logits_of(step.policy, states()[:, -1]) for states in (in_one, run))
            gaps.append((ours - theirs).abs().max().item())
            return run()

        return both

    monkeypatch.setattr(policy, "end_ids", [])
    torch._dynamo.reset()
    steps = noted(monkeypatch, compiled)
    sample(policy, Graphs(), [replace(REQUESTS[0], count=2)])
    torch._dynamo.reset()
    assert len(traced) == len(steps) == 3  # 16, 32 and 45 columns
    assert len(gaps) == TOKENS - 1 and max(gaps) <= 2e-6


def test_once_more_on_the_same_state_gives_the_same(qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run before it is recorded, and the plain step is, too: both write where it writes."""
    caches = []

    def twice(step: DecodeStep, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def again() -> Tensor:
            found = []
            for _ in range(2):
                states = run().clone()
                cached = [layer.key_room.clone() for layer in step.cache.layers]  # type: ignore[attr-defined]
                found.append([states, *cached, step.rows.filled.clone()])
            caches.append(all(map(torch.equal, *found)))
            return states

        return again

    noted(monkeypatch, twice)
    sample(qwen, Graphs())
    assert len(caches) > TOKENS / 2 and all(caches)


class TestWhereItDoesNot:
    def test_beside_the_base_nothing_is_recorded(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        """PEFT's hooks tell those rows apart, by a list of names that the host has."""
        mixed = [replace(REQUESTS[0], adapter=False), *REQUESTS[1:]]
        plain, steps = ids(sample(qwen, PLAIN, mixed)), noted(monkeypatch)
        assert ids(sample(qwen, Graphs(), mixed)) == plain
        assert not steps

    def test_other_logits_are_found_at_the_first_token(
        self, qwen: Policy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        plain, graphs = ids(sample(qwen, PLAIN)), Graphs()
        token = DecodingRows.token

        def one_too_few(self: DecodingRows, columns: int | None = None) -> Any:
            if columns is None:
                return token(self)
            mask, positions = token(self, columns)
            return mask, positions + 1

        monkeypatch.setattr(DecodingRows, "token", one_too_few)
        assert ids(sample(qwen, graphs)) == plain
        assert not graphs.usable
        assert [record.getMessage() for record in caplog.records] == [
            "rollout.cuda_graphs: a recorded decode step gives other logits than the plain one; going on without."
        ]

    def test_whatever_goes_wrong_the_sampling_goes_on(
        self, qwen: Policy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        plain = ids(sample(qwen, PLAIN))

        def wrong(*_: Any) -> None:
            raise TypeError("no such kernel\nand more")

        noted(monkeypatch, wrong)
        assert ids(sample(qwen, Graphs())) == plain
        assert [record.getMessage() for record in caplog.records] == [
            "rollout.cuda_graphs: a decode step could not be recorded (no such kernel); going on without."
        ]

    def test_an_older_torch(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """There a recording that fails leaves the allocator behind in a state that ends the process."""
        monkeypatch.setattr(decode_step, "version", lambda package: {"torch": "2.12.1+cu128"}[package])
        with caplog.at_level(logging.WARNING):
            assert not Graphs().usable and not Graphs(wanted=False).usable
        assert len(caplog.records) == 1 and "graphs need torch 2.13" in caplog.text

    def test_numbers_that_are_none_prove_nothing(self, qwen: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        """A model that has diverged says so itself."""
        graphs = Graphs()
        step = DecodeStep(last_states, qwen, None, None, graphs, Tensor.tolist)  # type: ignore[arg-type]
        lost, sound = torch.full((2, 5), torch.nan), torch.randn(2, 5)
        assert step._proven(sound, torch.stack([sound[0], lost[0]])) is sound and graphs.usable
        assert step._proven(lost, sound) is sound and not graphs.usable
