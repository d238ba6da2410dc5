"""Batched sampling from the policy's own weights, through transformers' own modules.

Each prompt is prefilled once and its KV cache expanded to its rollouts; finished rows are dropped.
Randomness is one uniform number per token from a stream named by (seed, purpose, step, problem,
rollout), never one per wave. On the CPU in float32 what is sampled is the same however many rollouts are decoded
together; on a GPU the random numbers are, but kernels, chosen by the number of rows, round in other ways.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from expo_lite.core.progress import DecodingProgress, OnProgress, silent
from expo_lite.core.records import Completion
from expo_lite.memory.halving import in_halves
from expo_lite.memory.live import LiveUnits
from expo_lite.memory.plan import PREFILL_TOKENS
from expo_lite.model.kv_cache import WaveCache
from expo_lite.model.masks import LeftPadded, ModelMask
from expo_lite.model.non_finite import NotFiniteError, require_finite, why_not_finite
from expo_lite.model.plain_chat import STOP, has_stopped, tokens_to_stop
from expo_lite.model.policy import Policy
from expo_lite.model.ranks import ALONE, Ranks
from expo_lite.model.token_sampling import choose, uniform_stream

CHECK_EVERY = 4  # tokens between looks at which rows have finished; each look waits for the device
TAIL = CHECK_EVERY + len(STOP)  # tokens that are looked at for a next question: a token is a character at least
DROP_BELOW = 0.75  # rows are dropped when no more than this share is still being written

Watch = Callable[[tuple[object, ...], int, int], None]
"""Told of each token as it is written: the request's stream, the token's position, its id. It may raise to stop."""


@dataclass(frozen=True)
class SampleRequest:
    """`count` completions of one prompt. `stream` names their randomness: (7, "rollout", 3, "tiny/10+20").

    `adapter` False asks the base, also beside requests that ask the policy.
    """

    prompt_ids: list[int]
    count: int
    stream: tuple[object, ...]
    adapter: bool = True


@dataclass(frozen=True)
class Slot:
    """One completion to be written: its request, and the name of its random stream."""

    request: SampleRequest
    stream: tuple[object, ...]


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
    ) -> None:
        self.policy = policy
        self.units = units
        self.dense = dense
        self.ranks = ranks
        self.read = read

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

        `watch` sees every token when it is written (again, where an out-of-memory made its wave start again);
        `on_progress` hears every few tokens how many completions are finished, and costs the device nothing.
        Where two requests have the same stream (a problem drawn twice in a step), the second goes on numbering
        its completions where the first stopped. Raises DivergedError if the model gives no finite logits, ConfigError
        if the base alone gives none either.
        """
        numbers: defaultdict[tuple[object, ...], Iterator[int]] = defaultdict(count)
        by_request = [[Slot(r, (*r.stream, next(numbers[r.stream]))) for _ in range(r.count)] for r in requests]

        def in_waves(own: Sequence[Sequence[Slot]]) -> list[list[Completion]]:
            progress = DecodingProgress(sum(map(len, own)), max_new_tokens, on_progress)

            def decode(wave: Sequence[Slot]) -> list[Completion]:
                return progress.written(self._wave(wave, max_new_tokens, temperature, greedy, watch, progress))

            return self._in_waves(own, decode)

        return self.ranks.each(by_request, in_waves)

    def _in_waves(
        self, by_request: Sequence[Sequence[Slot]], decode: Callable[[Sequence[Slot]], list[Completion]]
    ) -> list[list[Completion]]:
        """What `decode` makes of all slots, a wave at a time, by request."""
        slots = [slot for of_request in by_request for slot in of_request]
        written: list[Completion] = []
        mixed = not all(slot.request.adapter for slot in slots)  # then PEFT's own layers tell the rows apart
        try:
            with self.policy.generating("own" if mixed else "dense" if self.dense else "light"):
                while len(written) < len(slots):
                    wave = slots[len(written) : len(written) + self.units.rollouts_alive]
                    for part in in_halves(wave, decode, self.units.halve_rollouts, "memory.rollouts_alive"):
                        written += part
        except NotFiniteError as error:  # here, where nothing stands in for the base
            raise why_not_finite(self.policy, error, self.read) from None
        completions = iter(written)
        return [[next(completions) for _ in of_request] for of_request in by_request]

    def _wave(
        self,
        slots: Sequence[Slot],
        max_new_tokens: int,
        temperature: float,
        greedy: bool,
        watch: Watch | None,
        progress: DecodingProgress,
    ) -> list[Completion]:
        """Decode one wave of B slots to its end."""
        device = self.policy.device
        uniforms = None
        if not greedy:
            numbers = np.stack([uniform_stream(slot.stream, max_new_tokens) for slot in slots])
            uniforms = torch.from_numpy(numbers).to(device)  # (B, T)
        end_ids = torch.tensor(self.policy.end_ids, device=device)
        tokens = torch.full((len(slots), max_new_tokens), -1, device=device)
        logprobs = torch.zeros((len(slots), max_new_tokens), device=device)
        logits, cache, rows, width = self._prefill(slots, max_new_tokens)
        alive = torch.arange(len(slots), device=device)  # the slots that the cache's rows belong to
        adapters = [slot.request.adapter for slot in slots]
        finished = torch.zeros(len(slots), dtype=torch.bool, device=device)
        sound = torch.ones((), dtype=torch.bool, device=device)
        for t in range(max_new_tokens):
            column = None if uniforms is None else uniforms[alive, t]
            chosen, chosen_logprobs = choose(logits, temperature, column)
            tokens[alive, t], logprobs[alive, t] = chosen, chosen_logprobs
            sound &= (chosen_logprobs.isfinite() | finished).all()  # behind its end a row may hold anything
            if watch is not None:
                for row, token, done in self.read(torch.stack([alive, chosen, finished.long()], 1)):
                    if not done:
                        watch(slots[row].request.stream, t, token)
            finished |= torch.isin(chosen, end_ids)
            if t + 1 == max_new_tokens:
                break
            if t % CHECK_EVERY == 0:
                if self.policy.stops_at_questions:
                    finished |= self._stopped(tokens[alive, max(0, t + 1 - TAIL) : t + 1])
                keep = [row for row, done in enumerate(self.read(finished)) if not done]
                progress.seen(len(slots), t, len(keep))
                if not keep:
                    break
                if len(keep) <= DROP_BELOW * len(alive):
                    kept = torch.tensor(keep, device=device)
                    cache.batch_select_indices(kept)
                    rows.keep(keep, kept)
                    alive, finished, chosen = alive[kept], finished[kept], chosen[kept]
                    adapters = [adapters[row] for row in keep]
            logits = self._forward(chosen[:, None], *rows.token(width + t + 1), cache, adapters)
        sound_so_far = self.read(sound)
        written = self._completions(slots, self.read(tokens), self.read(logprobs))
        if not sound_so_far:
            require_finite(written, [each.logprobs for each in written], [slot.request.adapter for slot in slots])
        return written

    def _prefill(self, slots: Sequence[Slot], max_new_tokens: int) -> tuple[Tensor, WaveCache, LeftPadded, int]:
        """Run each different prompt once, a few at a time; logits (B, V), cache, masks and width, a row per slot."""
        requests = [(request, len(list(same))) for request, same in groupby(slots, key=attrgetter("request"))]
        width = max(len(request.prompt_ids) for request, _ in requests)
        room = width + max_new_tokens
        at_once = max(1, PREFILL_TOKENS // width)
        cache, logits = WaveCache(), []
        for first in range(0, len(requests), at_once):
            group = requests[first : first + at_once]
            prompts = [request.prompt_ids for request, _ in group]
            pad = self.policy.pad_id
            input_ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=self.policy.device)
            prefilled = DynamicCache(config=self.policy.causal_lm.config)
            mask, positions = self._left_padded(prompts, width, width).prompt(width)
            group_logits = self._forward(input_ids, mask, positions, prefilled, [r.adapter for r, _ in group])
            rows = torch.tensor([row for row, (_, n) in enumerate(group) for _ in range(n)], device=self.policy.device)
            cache.add(prefilled, rows, len(slots), room)
            logits.append(group_logits[rows])
        return torch.cat(logits), cache, self._left_padded([s.request.prompt_ids for s in slots], width, room), width

    def _left_padded(self, prompts: list[list[int]], width: int, room: int) -> LeftPadded:
        """The rows of these prompts: each ends in column `width`, and may grow to `room`."""
        pads = [width - len(prompt) for prompt in prompts]
        policy = self.policy
        return LeftPadded(pads, room, policy.causal_lm.config, policy.head.weight.dtype, policy.device)

    def _forward(
        self, input_ids: Tensor, mask: ModelMask, positions: Tensor, cache: DynamicCache, adapters: list[bool]
    ) -> Tensor:
        """Logits (B, V) of the token after `input_ids`, in float32; the cache grows. `adapters`: on or off, by row."""
        with self.policy.adapter_by_row(adapters):
            output = self.policy.causal_lm.get_decoder()(
                input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
        last = output.last_hidden_state[:, -1].contiguous()  # else 16-bit kernels may copy the head once per row
        return self.policy.head(last).float()

    def _stopped(self, tails: Tensor) -> Tensor:
        """Which rows have gone on with a next question within their last tokens (B, TAIL)."""
        found = [has_stopped(tail, self.policy.tokenizer) for tail in self.read(tails)]
        return torch.tensor(found, device=self.policy.device)

    def _completions(
        self, slots: Sequence[Slot], tokens: list[list[int]], logprobs: list[list[float]]
    ) -> list[Completion]:
        """Cut each row after its end token, or the tokens that begin a next question (it runs on until it is dropped).

        The text of a next question is left out.
        """
        end_ids, tokenizer = set(self.policy.end_ids), self.policy.tokenizer
        completions = []
        for slot, row, row_logprobs in zip(slots, tokens, logprobs, strict=True):
            end = next((t for t, token in enumerate(row) if token in end_ids), None)
            length = sum(token >= 0 for token in row) if end is None else end + 1
            stop = tokens_to_stop(row[:length], tokenizer) if self.policy.stops_at_questions else None
            length = stop or length
            text = str(tokenizer.decode(row[:length], skip_special_tokens=True))
            text = text if stop is None else text[: text.index(STOP)].rstrip()
            finished = end is not None or stop is not None
            completions.append(Completion(slot.request.prompt_ids, row[:length], row_logprobs[:length], finished, text))
        return completions
