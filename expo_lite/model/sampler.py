"""Batched sampling from the policy's own weights, through transformers' own modules.

Each prompt is prefilled once and its KV cache copied to its rollouts. Where rows have ended, others begin in their
places (continuous batching); once none are left to begin, ended rows are dropped.
Randomness is one uniform number per token from a stream named by (seed, purpose, step, problem,
rollout), never one per batch. On the CPU in float32 what is sampled is the same however many rollouts are decoded
together; on a GPU the random numbers are, but kernels, chosen by the number of rows, round in other ways.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count, groupby
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from expo_lite.core.progress import DecodingProgress, OnProgress, silent
from expo_lite.core.records import Completion
from expo_lite.memory.halving import until_it_fits
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.plan import PREFILL_TOKENS
from expo_lite.model.decode_step import PLAIN, DecodeStep, Graphs, last_states, logits_of
from expo_lite.model.kv_cache import RowCache
from expo_lite.model.masks import DecodingRows, ModelMask
from expo_lite.model.non_finite import NotFiniteError, require_finite, why_not_finite
from expo_lite.model.plain_chat import STOP, has_stopped, tokens_to_stop
from expo_lite.model.policy import Policy
from expo_lite.model.prefix_tree import PrefixTree, laid_out
from expo_lite.model.ranks import ALONE, Ranks
from expo_lite.model.row_batch import RowBatch
from expo_lite.model.sample_requests import SampleJob, SampleRequest, Slot, Watch

CHECK_EVERY = 4  # tokens between looks at which rows have finished; each look waits for the device
TAIL = CHECK_EVERY + len(STOP)  # tokens that are looked at for a next question: a token is a character at least
REFILL_BELOW = 0.75  # others begin, or ended rows are dropped, once no more than this share is still being written


class Sampler:
    """Completions of prompts, at most `units.rollouts_alive` decoded together.

    `read` is the only way device values reach Python.
    """

    def __init__(
        self,
        policy: Policy,
        units: LiveUnits,
        dense: bool = False,
        ranks: Ranks = ALONE,
        read: Callable[[Tensor], Any] = torch.Tensor.tolist,
        graphs: Graphs = PLAIN,
    ) -> None:
        self.policy = policy
        self.units = units
        self.dense = dense
        self.ranks = ranks
        self.read = read
        self.graphs = graphs

    def sample(
        self,
        requests: Sequence[SampleRequest],
        max_new_tokens: int,
        temperature: float = 1.0,
        greedy: bool = False,
        watch: Watch | None = None,
        on_progress: OnProgress = silent,
    ) -> list[list[Completion]]:
        """For each request its completions, in order; `greedy` takes the likeliest token instead.

        `watch` sees every token when it is written (again, where an out-of-memory made its row start again);
        `on_progress` hears every few tokens how many completions are finished, and costs the device nothing.
        Where two requests have the same stream (a problem drawn twice in a step), the second goes on numbering
        its completions where the first stopped. Raises DivergedError if the model gives no finite logits, ConfigError
        if the base alone gives none either.
        """
        numbers: defaultdict[tuple[object, ...], Iterator[int]] = defaultdict(count)
        by_request = [[Slot(r, (*r.stream, next(numbers[r.stream]))) for _ in range(r.count)] for r in requests]

        def written(own: Sequence[Sequence[Slot]]) -> list[list[Completion]]:
            slots = [slot for of_request in own for slot in of_request]
            progress = DecodingProgress(len(slots), max_new_tokens, on_progress)
            completions = iter(self._written(SampleJob(slots, max_new_tokens, temperature, greedy, watch, progress)))
            return [[next(completions) for _ in of_request] for of_request in own]

        return self.ranks.each(by_request, written)

    def _written(self, job: SampleJob) -> list[Completion]:
        """All that is asked for, in order."""

        def decode(at_once: int) -> None:
            with self.policy.generating("own" if job.asks_base else "dense" if self.dense else "light"):
                self._decode(job, at_once)

        try:
            until_it_fits(
                decode,
                lambda: len(job.slots) - len(job.finished),
                self.units.rollouts_alive,
                self.units.halve_rollouts,
                "memory.rollouts_alive",
            )
        except NotFiniteError as error:  # here, where nothing stands in for the base
            raise why_not_finite(self.policy, error, self.read) from None
        job.progress.finished()
        return [job.finished[number] for number in range(len(job.slots))]

    def _decode(self, job: SampleJob, at_once: int) -> None:
        """Write what is not finished yet."""
        waiting = deque(number for number in range(len(job.slots)) if number not in job.finished)
        policy = self.policy
        capacity = max(len(job.slots[number].request.prompt_ids) for number in waiting) + job.longest
        rows = DecodingRows(at_once, capacity, policy.causal_lm.config, policy.head.weight.dtype, policy.device)
        batch = RowBatch(at_once, job.longest, job.temperature, policy.end_ids, policy.device)
        cache, logits = RowCache(rows), torch.empty(0)
        graphs = PLAIN if job.asks_base else self.graphs
        next_logits = DecodeStep(self._forward, policy, rows, cache, graphs, self.read)
        for step in count():
            if len(rows.running) < len(batch.of) and len(rows.running) <= REFILL_BELOW * len(batch.of):
                logits = self._turn_over(job, waiting, batch, rows, cache, logits)
                if not rows.running:
                    return
            chosen = batch.write(logits, job.greedy)
            if job.watch is not None:
                for row, token, ended in self.read(torch.stack([batch.index, chosen, batch.over], 1)):
                    if row in rows.running and not ended:
                        job.watch(job.slots[batch.of[row]].request.stream, batch.lengths[row] - 1, token)
            if step % CHECK_EVERY == 0 or any(batch.lengths[row] == batch.longest for row in rows.running):
                self._look(job, batch, rows)
            if rows.running:
                logits = next_logits(chosen, [job.slots[number].request.adapter for number in batch.of])
                rows.written()

    def _look(self, job: SampleJob, batch: RowBatch, rows: DecodingRows) -> None:
        """Find out which rows have ended: those at the limit, which the host knows, and what the device says."""
        if all(batch.lengths[row] == batch.longest for row in rows.running):
            rows.running = []
        else:
            if self.policy.stops_at_questions:
                stopped = [has_stopped(tail, self.policy.tokenizer) for tail in self.read(batch.tails(TAIL))]
                batch.done |= torch.tensor(stopped, device=self.policy.device)
            done = self.read(batch.done)
            rows.running = [row for row in rows.running if not done[row]]
        for row in rows.running:
            batch.looked[row] = batch.lengths[row]
        ended = [batch.looked[row] + 1 for row in rows.idle if batch.of[row] >= 0]
        job.progress.seen(ended, [batch.lengths[row] for row in rows.running])

    def _turn_over(
        self, job: SampleJob, waiting: deque[int], batch: RowBatch, rows: DecodingRows, cache: RowCache, logits: Tensor
    ) -> Tensor:
        """Take what idle rows have written; begin others there, or go on without them. Returns the logits (R, V)."""
        idle, device = rows.idle, self.policy.device
        ended = [row for row in idle if batch.of[row] >= 0]
        if ended:
            self._take(job, batch, ended)
        if waiting:
            begun = idle[: len(waiting)]
            numbers = [waiting.popleft() for _ in begun]
            slots = [job.slots[number] for number in numbers]
            indices = torch.tensor(begun, device=device)
            batch.begin(begun, indices, numbers, None if job.greedy else [slot.stream for slot in slots])
            rows.put(begun, indices, [len(slot.request.prompt_ids) for slot in slots])
            first = self._prefill(slots, cache, indices)
            if len(begun) == len(batch.of):
                return first
            logits[indices] = first
        elif rows.running:
            kept = rows.running
            indices = torch.tensor(kept, device=device)
            cache.keep(indices)
            batch.keep(kept, indices)
            rows.keep(kept, indices)
            return logits[indices]
        return logits

    def _prefill(self, slots: Sequence[Slot], cache: RowCache, rows: Tensor) -> Tensor:
        """Run each different prompt once, a few at a time, and let `rows` of the cache begin with them; logits (B, V).

        What prompts begin with alike, such as solved examples, is run once. Else they are padded behind their ends,
        where no token of them sees it. Neither needs a mask.
        """
        requests = [(request, len(list(same))) for request, same in groupby(slots, key=attrgetter("request"))]
        at_once = max(1, PREFILL_TOKENS // max(len(request.prompt_ids) for request, _ in requests))
        device, logits, begun = self.policy.device, [], 0
        for first in range(0, len(requests), at_once):
            group = requests[first : first + at_once]
            adapters = [request.adapter for request, _ in group]
            trees = self.policy.takes_trees and len({*adapters}) == 1
            prompts = [request.prompt_ids for request, _ in group]
            inputs, places = laid_out(prompts, self.policy.pad_id, device, trees)
            tree = inputs if isinstance(inputs, PrefixTree) else None
            prefilled = DynamicCache()
            with self.policy.adapter_by_row(adapters if tree is None else adapters[:1]):
                states = self.policy.hidden_states(inputs, prefilled).flatten(0, 1)
            copies = torch.tensor([row for row, (_, n) in enumerate(group) for _ in range(n)], device=device)
            cache.put(prefilled, copies, rows[begun : begun + len(copies)], tree)
            begun += len(copies)
            ends = torch.tensor([own[-1] for own in places], device=device)
            logits.append(logits_of(self.policy, states[ends])[copies])
        return torch.cat(logits)

    def _forward(
        self, input_ids: Tensor, mask: ModelMask, positions: Tensor, cache: DynamicCache, adapters: list[bool]
    ) -> Tensor:
        """Logits (B, V) of the token after `input_ids`, in float32; the cache grows. `adapters`: on or off, by row."""
        with self.policy.adapter_by_row(adapters):
            states = last_states(self.policy, input_ids, mask, positions, cache)
        return logits_of(self.policy, states[:, -1])

    def _take(self, job: SampleJob, batch: RowBatch, ended: Sequence[int]) -> None:
        """Read what rows have written to their ends."""
        indices = torch.tensor(ended, device=self.policy.device)
        longest = job.longest
        sound, tokens, logprobs = map(
            self.read, (batch.sound, batch.tokens[indices, :longest], batch.logprobs[indices, :longest])
        )
        numbers = [batch.of[row] for row in ended]
        slots = [job.slots[number] for number in numbers]
        written = [self._completion(*each) for each in zip(slots, tokens, logprobs, strict=True)]
        if not sound:
            require_finite(written, [each.logprobs for each in written], [slot.request.adapter for slot in slots])
        job.finished.update(zip(numbers, written, strict=True))
        job.progress.written(written)
        for row in ended:
            batch.of[row] = -1

    def _completion(self, slot: Slot, row: list[int], logprobs: list[float]) -> Completion:
        """Cut a row after its end token, or the tokens that begin a next question, whose text is left out."""
        end_ids, tokenizer = set(self.policy.end_ids), self.policy.tokenizer
        end = next((t for t, token in enumerate(row) if token in end_ids), None)
        length = sum(token >= 0 for token in row) if end is None else end + 1
        stop = tokens_to_stop(row[:length], tokenizer) if self.policy.stops_at_questions else None
        length = stop or length
        text = str(tokenizer.decode(row[:length], skip_special_tokens=True))
        text = text if stop is None else text[: text.index(STOP)].rstrip()
        finished = end is not None or stop is not None
        return Completion(slot.request.prompt_ids, row[:length], logprobs[:length], finished, text)
