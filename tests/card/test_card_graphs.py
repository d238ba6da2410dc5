"""Decode steps as CUDA graphs, on the stand-in: recorded, replayed, and refused (support/card_graphs.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bitsandbytes  # noqa: F401  before there is a card: it takes its CPU library
import pytest
import torch
from support.card import Driver
from support.card_graphs import INVALIDATED, Recording
from support.card_tensors import card
from support.tiny_models import live_units, save_base
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from expo_lite.config.settings import PolicyConfig
from expo_lite.core.records import Completion
from expo_lite.model import decode_step
from expo_lite.model import sampler as sampler_module
from expo_lite.model.decode_step import PLAIN, Graphs
from expo_lite.model.kv_cache import RowCache
from expo_lite.model.masks import DecodingRows
from expo_lite.model.policy import Policy, load_policy
from expo_lite.model.sampler import CHECK_EVERY, Sampler, SampleRequest

TOKENS = 30
NO_LAUNCH = {
    *("view", "_unsafe_view", "t", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias"),
    *("empty", "lift_fresh"),
}
REQUESTS = [
    SampleRequest([3, 7, 9, 12, 4], 5, ("a",)),
    SampleRequest([3, 5, 11, 6, 8, 20, 25, 10, 4], 4, ("b",)),
    SampleRequest([3, 5, 4], 4, ("c",)),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("graphs") / "base")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setattr(decode_step, "SPAN", 16)
    with card("4090") as driver:
        yield driver


@pytest.fixture(params=["none", "nf4"])
def policy(request: pytest.FixtureRequest, base: Path, driver: Driver) -> Policy:
    return on_card(base, request.param)


@pytest.fixture
def plain_policy(base: Path, driver: Driver) -> Policy:
    return on_card(base, "none")


def on_card(base: Path, quantization: str) -> Policy:
    config = PolicyConfig(model=str(base), device="cuda", dtype="float32", quantization=quantization, lora_rank=4)  # type: ignore[arg-type]
    policy = load_policy(config, 0)
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape))
    return policy


class Reads:
    """Counts what is read."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, tensor: Tensor) -> Any:
        self.count += 1
        return tensor.tolist()


def sample(policy: Policy, graphs: Graphs, alive: int = 8, read: Any = Tensor.tolist) -> list[list[int]]:
    units = live_units(alive)
    written: list[list[Completion]] = Sampler(policy, units, read=read, graphs=graphs).sample(REQUESTS, TOKENS)
    return [completion.completion_ids for of_request in written for completion in of_request]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "expo_lite.model.decode_step"]


class TestRecorded:
    def test_the_same_tokens(self, policy: Policy, driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
        plain, graphs = sample(policy, PLAIN), Graphs()
        assert len({len(tokens) for tokens in plain}) > 3
        assert sample(policy, graphs) == plain
        assert graphs.usable and graphs.proven and said(caplog) == []
        assert 3 < len(driver.streams.captures) < driver.streams.replays / 3
        assert driver.streams.current == 0

    def test_the_host_waits_for_nothing_else(self, plain_policy: Policy, driver: Driver) -> None:
        """Beside its looks, once in four tokens, and torch's own wait where a recording begins."""
        plain_policy.end_ids, read, graphs = [], Reads(), Graphs()
        driver.waits.clear()
        sample(plain_policy, graphs, 16, read)
        recordings = len(driver.streams.captures)
        assert recordings == 3  # 16, 32 and 39 columns
        assert driver.waits == {"tolist": read.count, "synchronize": recordings}
        # Looks; whether the first graph's logits are the plain step's; at the end three.
        assert read.count == -(-(TOKENS - 1) // CHECK_EVERY) + 1 + 3

    def test_what_the_host_still_starts(self, plain_policy: Policy, driver: Driver) -> None:
        """Of each token: its choice, the head, and the graph; whatever the number of layers."""
        plain_policy.end_ids = []

        class Launches(TorchDispatchMode):
            count = 0

            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                Launches.count += func._schema.name.partition("::")[2] not in NO_LAUNCH
                return func(*args, **(kwargs or {}))

        def of_a_token(graphs: Graphs) -> float:
            counts = []
            for tokens in (8, 8, 12):  # within 16 columns; the first graph of all is held beside the plain step
                Launches.count = 0
                with Launches():
                    Sampler(plain_policy, live_units(), graphs=graphs).sample(REQUESTS[:1], tokens)
                counts.append(Launches.count)
            return (counts[2] - counts[1]) / 4

        by_graph, plain = of_a_token(Graphs()), of_a_token(PLAIN)
        assert by_graph < 40 < 130 < plain

    def test_graphs_do_not_outlive_the_adapter_that_they_hold(self, plain_policy: Policy, driver: Driver) -> None:
        """Light copies of the LoRA layers have new addresses in each call; a step of training changes their numbers."""
        graphs = Graphs()
        sample(plain_policy, graphs)
        assert not driver.streams.graphs
        for parameter in plain_policy.trainable:
            parameter.data.mul_(-1.5)
        assert sample(plain_policy, graphs) == sample(plain_policy, PLAIN)
        assert graphs.usable

    def test_what_moves_when_rows_go_is_all_that_is_filled(
        self, plain_policy: Policy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Long rows, then short ones, which grow into a graph that was recorded before: nothing runs but the graph."""
        monkeypatch.setattr(sampler_module, "CHECK_EVERY", 1)
        moved: list[bool] = []
        keep = RowCache.keep

        def watched(self: RowCache, indices: Tensor) -> None:
            moved.append(self.rows.span >= self.rows.needed - 1)
            keep(self, indices)

        monkeypatch.setattr(RowCache, "keep", watched)
        for seed in (13, 25, 26, 34):
            requests = [SampleRequest(list(range(3, 20)), 2, ("l", seed)), SampleRequest([3, 5, 4], 4, ("s", seed))]
            Sampler(plain_policy, live_units(2), graphs=Graphs()).sample(requests, TOKENS)
        assert len(moved) == 4 and all(moved)

    def test_by_the_base_alone(self, plain_policy: Policy) -> None:
        with plain_policy.reference():
            assert sample(plain_policy, Graphs()) == sample(plain_policy, PLAIN)


def looks(self: DecodingRows) -> None:
    self.filled.max().item()


def reads_a_row(self: DecodingRows) -> None:
    self.filled.tolist()


def brings_data(self: DecodingRows) -> None:
    torch.tensor([1, 2], device=self.filled.device)


def picks_by_truth(self: DecodingRows) -> None:
    self.filled[self.filled > 2]


def decides(self: DecodingRows) -> None:
    bool((self.filled > 2).all())


def copies_away(self: DecodingRows) -> None:
    self.filled.cpu()


class TestRefused:
    @pytest.mark.parametrize("mistake", [looks, reads_a_row, brings_data, picks_by_truth, decides, copies_away])
    def test_what_a_recording_cannot_hold(
        self, mistake: Callable[[DecodingRows], None], plain_policy: Policy, driver: Driver,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        plain, graphs, token = sample(plain_policy, PLAIN), Graphs(), DecodingRows.token

        def mistaken(self: DecodingRows, columns: int | None = None) -> Any:
            mistake(self)
            return token(self, columns)

        monkeypatch.setattr(DecodingRows, "token", mistaken)
        assert sample(plain_policy, graphs) == plain
        assert said(caplog) == [
            f"rollout.cuda_graphs: a decode step could not be recorded ({INVALIDATED}); going on without."
        ]
        assert not graphs.usable and driver.streams.captures == [] and driver.streams.current == 0
        assert driver.streams.joins == [(1, 0), (0, 1)], "the plain step waits for what the other stream still does"

    def test_work_that_is_not_recorded(
        self, plain_policy: Policy, driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A library's kernel on a stream of its own, as bitsandbytes' once were: it is not in the graph."""
        plain, graphs, add = sample(plain_policy, PLAIN), Graphs(), Recording.add
        left_out: list[str] = []

        def all_but_one(self: Recording, func: Any, *rest: Any) -> None:
            if "addmm" in str(func) and not left_out:
                left_out.append(str(func))
                return
            add(self, func, *rest)

        monkeypatch.setattr(Recording, "add", all_but_one)
        assert sample(plain_policy, graphs) == plain
        assert left_out and not graphs.usable
        assert said(caplog) == [
            "rollout.cuda_graphs: a recorded decode step gives other logits than the plain one; going on without."
        ]

    @pytest.mark.parametrize("invalid", [False, True])
    def test_out_of_memory_while_recording(
        self, invalid: bool, plain_policy: Policy, driver: Driver, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """As anywhere: half as many rows. Some allocations that fail break the recording, too (pytorch 187795)."""
        plain, graphs, begin = sample(plain_policy, PLAIN), Graphs(), torch.cuda.CUDAGraph.capture_begin

        def short_of_memory(self: torch.cuda.CUDAGraph, *args: Any, **kwargs: Any) -> None:
            monkeypatch.undo()
            monkeypatch.setattr(decode_step, "SPAN", 16)
            begin(self, *args, **kwargs)
            driver.refuse_after = 5
            assert driver.streams.capturing is not None
            driver.streams.capturing.valid = not invalid

        monkeypatch.setattr(torch.cuda.CUDAGraph, "capture_begin", short_of_memory)
        units = live_units(8)
        written = Sampler(plain_policy, units, graphs=graphs).sample(REQUESTS, TOKENS)
        assert [c.completion_ids for of_request in written for c in of_request] == plain
        assert units.rollouts_alive == 4 and units.halvings == 1
        assert graphs.usable and graphs.proven and said(caplog) == [] and driver.streams.current == 0


class TestTheStandIn:
    """What these tests rest on."""

    def test_nothing_is_computed_before_the_first_replay(self, driver: Driver) -> None:
        given, graph = torch.ones(3, device="cuda"), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            doubled = (given + 1) * 2
        assert doubled.isnan().all()
        graph.replay()
        assert doubled.tolist() == [4.0] * 3
        given.fill_(2)
        given = torch.zeros(3, device="cuda")  # another address
        graph.replay()
        assert doubled.tolist() == [6.0] * 3

    def test_torchs_words(self, driver: Driver) -> None:
        torch.cuda.init()
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match="without a preceding successful capture"):
            graph.replay()
        with pytest.raises(RuntimeError, match="non-default stream"):
            graph.capture_begin()
        with pytest.raises(RuntimeError, match="capture error mode"), torch.cuda.graph(graph, capture_error_mode="own"):
            pass

    def test_a_pool_lives_as_long_as_its_graphs(self, driver: Driver) -> None:
        pool, side = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        for expected in (None, "use_count"):
            graph = torch.cuda.CUDAGraph()
            if expected is None:
                with torch.cuda.graph(graph, pool=pool, stream=side):
                    torch.zeros(2, device="cuda")
                del graph
            else:
                with pytest.raises(RuntimeError, match=expected), torch.cuda.graph(graph, pool=pool, stream=side):
                    pass

    def test_a_capture_that_fails_leaves_its_stream_current(self, driver: Driver) -> None:
        values, side = torch.ones(3, device="cuda"), torch.cuda.Stream()
        graph = torch.cuda.graph(torch.cuda.CUDAGraph(), stream=side)
        with pytest.raises(RuntimeError, match="previous error during capture") as ended, graph:
            values.sum().item()
        assert "not permitted when stream is capturing" in str(ended.value.__context__)
        assert torch.cuda.current_stream() == side
