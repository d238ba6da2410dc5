"""One more token of every row, with shapes that stay: recorded once as a CUDA graph, and then started as a whole.

In a decode step the host starts some fifty operators for each layer, which on a large model takes it longer than the
card needs to compute them. A graph starts all of them at once. It repeats what was recorded, at the same addresses: so
the step reads its tokens and the rows' lengths from tensors that stay where they are, and looks at `SPAN` columns of
the cache more wherever its mask may have to grow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from expo_lite.core.errors import first_line
from expo_lite.memory.halving import is_out_of_memory
from expo_lite.model.kv_cache import RowCache
from expo_lite.model.masks import DecodingRows, ModelMask
from expo_lite.model.policy import Policy

SPAN = 256  # columns by which the step's view of the cache grows: each time it is recorded anew
MOST_NATS, MOST_NATS_HALF = 1e-3, 0.2  # that log-probabilities may differ on average by rounding; in 16 bit
SINCE = (2, 13)  # of torch: up to 2.12 a recording that fails leaves the allocator unusable (pytorch pull 180395)

logger = logging.getLogger(__name__)


class Graphs:
    """Whether decode steps are recorded: until one cannot be, or gives other logits than the plain step.

    One for a process: `proven` once a graph's logits have been held beside the plain step's.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.usable, self.proven = wanted, False
        self.side: torch.cuda.Stream | None = None
        major, minor = version("torch").split(".")[:2]
        if wanted and (int(major), int(minor)) < SINCE:
            self.give_up("graphs need torch {}.{}".format(*SINCE))

    def stream(self, device: torch.device) -> torch.cuda.Stream:
        """The stream that all are recorded on."""
        self.side = self.side or torch.cuda.Stream(device)
        return self.side

    def give_up(self, why: str) -> None:
        """Say it, once, and do without from now on."""
        self.usable = False
        logger.warning("rollout.cuda_graphs: %s; going on without.", why)


PLAIN = Graphs(wanted=False)


class DecodeStep:
    """The next token's logits of all rows: by a graph, or by `plain`, the sampler's own forward pass."""

    def __init__(
        self,
        plain: Callable[..., Tensor],
        policy: Policy,
        rows: DecodingRows,
        cache: RowCache,
        graphs: Graphs,
        read: Callable[[Tensor], Any] = torch.Tensor.tolist,
    ) -> None:
        self.plain, self.graphs, self.read = plain, graphs, read
        self.policy, self.rows, self.cache = policy, rows, cache
        self.tokens = torch.empty(0)  # (R,), which the steps read; theirs are the addresses of `filled`
        self.filled: Tensor | None = None
        self.steps: dict[int, Callable[[], Tensor]] = {}  # number of columns -> last hidden states (R, 1, H)
        self.pool: Any = None  # of memory, which these graphs share

    def __call__(self, tokens: Tensor, adapters: list[bool]) -> Tensor:
        """Logits (R, V), in float32, of what follows `tokens` (R,). `adapters`: on or off, by row; with graphs all on.

        Raises torch.OutOfMemoryError where there is no memory to record a graph.
        """
        step = self._step() if self.graphs.usable else None
        if step is None:
            return self.plain(tokens[:, None], *self.rows.token(), self.cache, adapters)
        self.tokens.copy_(tokens)
        logits = logits_of(self.policy, step()[:, -1])
        if self.graphs.proven:
            return logits
        return self._proven(logits, self.plain(tokens[:, None], *self.rows.token(), self.cache, adapters))

    def _step(self) -> Callable[[], Tensor] | None:
        """The step that looks at as many columns as are needed, recorded now or before; None where it cannot be."""
        columns = self.rows.span = min(-(-self.rows.needed // SPAN) * SPAN, self.rows.capacity)
        if self.filled is not self.rows.filled:  # other rows: graphs keep the addresses of the earlier ones'
            self.filled, self.tokens, self.steps = self.rows.filled, torch.zeros_like(self.rows.filled), {}
            self.pool = None
        if columns not in self.steps:
            try:
                self.steps[columns] = self._recorded(columns)
            except Exception as error:  # whatever it is: the plain step goes on
                if lack := lack_of_memory(error):
                    raise torch.OutOfMemoryError(str(lack)) from error
                self.steps = {}
                self.graphs.give_up(f"a decode step could not be recorded ({first_line(error)})")
                return None
        return self.steps[columns]

    def _recorded(self, columns: int) -> Callable[[], Tensor]:
        """The step as a graph; off the card it is run anew each time."""

        def step() -> Tensor:
            mask, positions = self.rows.token(columns)
            return last_states(self.policy, self.tokens[:, None], mask, positions, self.cache)

        if self.policy.device.type != "cuda":
            return step
        here, side = torch.cuda.current_stream(self.policy.device), self.graphs.stream(self.policy.device)
        self.pool = self.pool or torch.cuda.graph_pool_handle()  # one whose graphs are all gone would be refused
        graph = torch.cuda.CUDAGraph()
        side.wait_stream(here)
        try:
            with torch.cuda.stream(side):  # left after an error, too, where torch.cuda.graph stays in its stream
                step()  # loads kernels and libraries; what it writes into the cache is written again
                with torch.cuda.graph(graph, pool=self.pool, stream=side, capture_error_mode="thread_local"):
                    states = step()
        finally:
            here.wait_stream(side)  # else the plain step would write beside it

        def replay() -> Tensor:
            graph.replay()
            return states

        return replay

    def _proven(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Logits by the graph, if they are the plain step's up to rounding; else those. Rows without numbers count not.

        What was recorded before has seen other tokens: work that a library starts beside the graph shows here.
        """
        most = MOST_NATS if self.policy.head.weight.dtype == torch.float32 else MOST_NATS_HALF
        gaps = (torch.log_softmax(ours, -1) - torch.log_softmax(theirs, -1)).abs().mean(-1)
        if self.read(((gaps <= most) | ~theirs.isfinite().all(-1)).all()):
            self.graphs.proven = True
            return ours
        self.graphs.give_up("a recorded decode step gives other logits than the plain one")
        self.steps = {}
        return theirs


def last_states(policy: Policy, input_ids: Tensor, mask: ModelMask, positions: Tensor, cache: DynamicCache) -> Tensor:
    """Last hidden states (B, T, H) of tokens (B, T) that follow what is cached; the cache grows."""
    decoder = policy.causal_lm.get_decoder()
    return decoder(
        input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state


def logits_of(policy: Policy, states: Tensor) -> Tensor:
    """Logits (B, V), in float32, of what follows tokens with these last hidden states (B, H)."""
    return policy.head(states.contiguous()).float()  # else 16-bit kernels may copy the head once per row


def lack_of_memory(error: BaseException | None) -> BaseException | None:
    """The out-of-memory that this error is, or came of: where a recording breaks off, its end raises another."""
    while error is not None and not is_out_of_memory(error):
        error = error.__context__
    return error
