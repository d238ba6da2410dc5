"""Training sequences -> one update of the adapter, in micro-batches that fit the memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from expo_lite.config.settings import Config
from expo_lite.core.progress import OnProgress, SequenceProgress, in_phase, silent
from expo_lite.core.records import PreferencePair, TrainingSequence
from expo_lite.memory.live import LiveUnits
from expo_lite.model.non_finite import NotFiniteError, diverged, require_finite, why_not_finite
from expo_lite.model.policy import Policy
from expo_lite.model.ranks import ALONE, Ranks
from expo_lite.training.dpo_pairs import preference_weights
from expo_lite.training.losses import explanation_loss, kl_loss, policy_loss
from expo_lite.training.metrics import UpdateMeter
from expo_lite.training.micro_batches import MicroBatch, in_micro_batches, per_sequence

Result = TypeVar("Result")

PASSES = {"old_logprobs": "old policy", "reference_logprobs": "reference"}
"""Passes without gradients, as phases of a step."""


class Updater:
    """Owns the optimizer and its schedule. `read` is the only way device values reach Python."""

    def __init__(
        self,
        config: Config,
        policy: Policy,
        units: LiveUnits,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        ranks: Ranks = ALONE,
        read: Callable[[Tensor], Any] = torch.Tensor.tolist,
    ) -> None:
        self.config = config
        self.policy = policy
        self.units = units
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.ranks = ranks
        self.read = read
        # A token's weight is about 1e-5, below what float16 gradients can hold: there the loss is scaled up.
        half = policy.head.weight.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(policy.device.type, enabled=half)
        self.scaler.scale(torch.zeros((), device=policy.device))  # it gets its scale now: a rank may have no sequence
        self.within_update = False  # part of a step's update is in the adapter, or the whole without its schedule

    @property
    def complete_steps(self) -> int | None:
        """How many steps adapter and optimizer have seen, None where one was left in the middle."""
        return None if self.within_update else self.scheduler.last_epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {name: getattr(self, name).state_dict() for name in ("optimizer", "scheduler", "scaler")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        for name in ("optimizer", "scheduler", "scaler"):
            getattr(self, name).load_state_dict(state[name])

    def update(self, sequences: Sequence[TrainingSequence], on_progress: OnProgress = silent) -> dict[str, float]:
        """Loss, backward and optimizer step; without sequences nothing is updated. Returns the update's metrics."""
        meter = self.new_meter()
        if sequences:
            if self.config.kl.coef > 0:
                with self.policy.reference():
                    sequences = self.with_logprobs(sequences, "reference_logprobs", on_progress)
            if self.config.objective.updates_per_batch > 1:
                sequences = self.with_logprobs(sequences, "old_logprobs", on_progress)
            for _ in range(self.config.objective.updates_per_batch):
                self.one_update(sequences, meter, on_progress)
        self.advance_schedule()
        return meter.metrics(self.read, self.ranks.summed)

    def update_on_pairs(self, pairs: Sequence[PreferencePair], on_progress: OnProgress = silent) -> dict[str, float]:
        """The same for DPO: before each update, a pass without gradients finds what each token weighs in its loss."""
        meter = self.new_meter()
        measured: dict[str, float] = {"pairs": 0}
        if pairs:
            sequences = [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]
            with self.policy.reference():
                sequences = self.with_logprobs(sequences, "reference_logprobs", on_progress)
            for number in range(self.config.objective.updates_per_batch):
                scored = self.with_logprobs(sequences, "old_logprobs", on_progress)
                weighted, metrics = preference_weights(scored, self.config.dpo)
                measured = metrics if number == 0 else measured
                self.one_update(weighted, meter, on_progress)
        self.advance_schedule()
        return {**meter.metrics(self.read, self.ranks.summed), **measured}

    def new_meter(self) -> UpdateMeter:
        """A meter for one step's update."""
        return UpdateMeter(learning_rate=float(self.scheduler.get_last_lr()[0]))

    def one_update(self, sequences: Sequence[TrainingSequence], meter: UpdateMeter, on_progress: OnProgress) -> None:
        """Gradients of all sequences, and one optimizer step. Only the first update is metered: later ones no longer
        belong to the policy that was sampled."""
        first = meter.gradient_norm is None
        own = self.ranks.share(sorted(sequences, key=lambda s: s.length))  # by length: about as many tokens each
        for sums in self.in_micro_batches(own, self.accumulate_gradients, in_phase("training", on_progress)):
            if first:
                meter.add(sums)
        self.ranks.sum_gradients(self.policy.trainable)
        meter.gradient_norm = self.apply_gradients(sequences)
        meter.updates += math.isfinite(meter.gradient_norm)  # else float16's scaler has left it out

    def in_micro_batches(
        self,
        sequences: Sequence[TrainingSequence],
        work: Callable[[MicroBatch], Result],
        on_progress: OnProgress = silent,
    ) -> Iterator[Result]:
        """Do `work` on micro-batches of the moment's size; see `micro_batches.in_micro_batches`."""
        progress = SequenceProgress(sequences, on_progress)

        def counted(batch: MicroBatch) -> Result:
            result = work(batch)
            progress.add(batch.sequences)
            return result

        return in_micro_batches(sequences, self.policy, self.units, counted)

    def accumulate_gradients(self, batch: MicroBatch) -> dict[str, Tensor]:
        """Add the micro-batch's gradients to the step's; returns sums over its tokens for the metrics.

        Adding the gradients comes last and takes no memory, so a failed attempt leaves nothing behind.
        """
        logprobs, entropy = self.logprobs(batch)
        loss = self.scaler.scale(self.loss(batch, logprobs))
        gradients = torch.autograd.grad(loss, self.policy.trainable)
        sums = UpdateMeter.sums_of(batch, logprobs.detach(), entropy)
        for parameter, gradient in zip(self.policy.trainable, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return sums

    def loss(self, batch: MicroBatch, logprobs: Tensor) -> Tensor:
        """The micro-batch's share of the step's loss: policy term, explanation term and, if asked for, KL penalty."""
        # Without old log-probabilities there is one update per batch, and the ratio is exactly 1.
        old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
        epsilon = self.config.objective.clip_epsilon
        loss = policy_loss(logprobs, old, batch.advantages, batch.policy_weights, epsilon)
        loss = loss + explanation_loss(logprobs, batch.likelihood_weights)
        if batch.reference_logprobs is not None:
            loss = loss + self.config.kl.coef * kl_loss(logprobs, batch.reference_logprobs, batch.policy_weights)
        return loss

    def logprobs(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies (N,): rollout tokens at the sampling temperature, explanations at 1."""
        temperature = torch.where(batch.is_policy, self.config.rollout.temperature, 1.0)
        chunk = self.units.logprob_chunk
        return self.policy.completion_logprobs(batch.inputs, batch.positions, batch.targets, temperature, chunk)

    @torch.no_grad()
    def with_logprobs(
        self,
        sequences: Sequence[TrainingSequence],
        name: Literal["old_logprobs", "reference_logprobs"],
        on_progress: OnProgress,
    ) -> list[TrainingSequence]:
        """The sequences, in their order, with the model's present log-probabilities of their tokens.

        Raises DivergedError where these are not finite, ConfigError where the base's are not either.
        """

        def score(batch: MicroBatch) -> list[tuple[int, list[float]]]:
            values = per_sequence(batch.sequences, self.read(self.logprobs(batch)[0]))
            require_finite(batch.sequences, values, repeat(True))
            return [(id(row), own) for row, own in zip(batch.sequences, values, strict=True)]

        def scored(own: Sequence[TrainingSequence]) -> list[TrainingSequence]:
            batches = self.in_micro_batches(own, score, in_phase(PASSES[name], on_progress))
            try:
                found = dict(pair for pairs in batches for pair in pairs)
            except NotFiniteError as error:
                raise why_not_finite(self.policy, error, self.read) from None
            return [replace(row, **{name: found[id(row)]}) for row in own]

        return self.ranks.each(sequences, scored)

    def apply_gradients(self, sequences: Sequence[TrainingSequence]) -> float:
        """Clip, step, and forget the gradients of these sequences; returns their norm before clipping.

        In float16 a norm that is not finite means that the loss scale was too large: the update is left out and the
        scale halved. Else, and where log-probabilities are not finite, it raises DivergedError, or ConfigError where
        the base's are not either; the adapter stays as it was.
        """
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.policy.trainable, self.config.optimizer.max_grad_norm)
        value = float(self.read(norm))
        if not math.isfinite(value):
            self.with_logprobs(sequences, "old_logprobs", silent)  # raises where they are not finite
            if self.scaler.get_scale() <= 1:
                raise diverged(f"The gradient norm is {value}")
        self.within_update = True
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def advance_schedule(self) -> None:
        """The learning rate follows the step, whether it updated or not; torch warns if the first one did not."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step")
            self.scheduler.step()
        self.within_update = False
