"""Are updates sound: one policy in sampling and training, gradients finite and not all clipped, room to vary?"""

from __future__ import annotations

from collections.abc import Sequence

from expo_lite.runs.diagnosis.evidence import SOME, Evidence, Finding, average, mean, total, values
from expo_lite.runs.diagnosis.scores import climbed

GAP_16_BIT, GAP_32_BIT = 0.05, 1e-3  # nats per token; rounding alone gives about 1e-7 in 32 bit, 1e-2 in 16
COLLAPSED = 0.1  # of the early entropy
MASTERED = 0.9  # mean reward: who is right may be certain
ENOUGH = 10  # numbers, before one speaks of a trend
CLIPPED = 0.9  # of the updates
UNDECIDED = 0.55  # of the pairs
SLOWER, FASTER = 1 / 3, 3


def gap(run: Evidence) -> Finding | None:
    """On policy, sampler and trainer should see the same log-probabilities."""
    policy = run.config.policy
    exact = policy.dtype == "float32" or (policy.dtype == "auto" and policy.device == "cpu")
    nats, most = mean(run.recent, "sampler_trainer_gap_nats"), GAP_32_BIT if exact else GAP_16_BIT
    if nats <= most:
        return None
    setting = "--rollout.dense-weights no"
    if policy.backend != "transformers":  # which takes no dense weights
        setting = "--policy.backend transformers"
    elif run.config.rollout.dense_weights == "no":
        setting = "--policy.dtype float32"
    sentence = (
        f"Sampling and training disagree by {nats:.2g} nats a token where rounding explains {most:g}: what is trained "
        f"is not what was sampled. Try {setting}"
    )
    return Finding("sampler_trainer_gap", "serious", sentence, setting)


def entropy(run: Evidence) -> Finding | None:
    """The policy has become certain before it has become right, and explores no more."""
    nats = values(run.metrics, "entropy_nats")
    if len(nats) < 2 * ENOUGH:
        return None
    early, late = average(nats[:ENOUGH]), average(nats[-ENOUGH:])
    if late >= COLLAPSED * early or mean(run.recent, "reward_mean") > MASTERED or climbed(run):
        return None
    sentence = (
        f"Entropy has collapsed from {early:.2g} to {late:.2g} nats a token while the mean reward is "
        f"{mean(run.recent, 'reward_mean'):.2f}: attempts at a problem are all alike. Lower optimizer.learning_rate, "
        "or raise rollout.temperature."
    )
    return Finding("entropy_collapse", "warning", sentence, _rate(run, SLOWER))


def clipping(run: Evidence) -> Finding | None:
    """The gradient is cut at every update, so that its size no longer counts."""
    norms, limit = values(run.recent, "gradient_norm"), run.config.optimizer.max_grad_norm
    clipped = sum(norm > limit for norm in norms)
    if len(norms) < ENOUGH or clipped < CLIPPED * len(norms):
        return None
    middle = sorted(norms)[len(norms) // 2]
    sentence = (
        f"{clipped} of {len(norms)} gradients were clipped (median norm {middle:.2g}, limit {limit:g}): every update "
        "has the same size, however little it knows. Raise optimizer.max_grad_norm, or lower optimizer.learning_rate."
    )
    return Finding("clipping", "warning", sentence, f"--optimizer.max-grad-norm {2 * middle:.2g}")


def overflow(run: Evidence) -> Finding | None:
    """float16 gradients that are not finite are left out; now and then that is how the scale is found."""
    lost = [step for step in run.recent if "gradient_norm" in step and step.get("updates") == 0]
    if len(lost) <= SOME * len(run.recent) or len(lost) < 2:
        return None
    sentence = (
        f"{len(lost)} of {len(run.recent)} steps had something to learn from and made no update: their gradients were "
        "not finite. Use policy.dtype bfloat16 or float32."
    )
    return Finding("overflow", "warning", sentence, "--policy.dtype float32")


def undecided(run: Evidence) -> Finding | None:
    """DPO: the policy prefers right to wrong no more often than a coin."""
    shares = values(run.recent, "dpo_accuracy_share")
    if len(shares) < ENOUGH or average(shares[-ENOUGH:]) >= UNDECIDED:
        return None
    sentence = (
        f"The policy prefers the right answer in {average(shares[-ENOUGH:]):.0%} of the pairs, no more than a coin: "
        "raise optimizer.learning_rate."
    )
    return Finding("undecided_pairs", "warning", sentence, _rate(run, FASTER))


def out_of_memory(run: Evidence) -> Finding | None:
    """Memory ran out and the work was done in halves: slower, not worse."""
    steps = [int(step.get("step", 0)) for step in run.metrics if total([step], "out_of_memory_halvings")]
    if not steps:
        return None
    halvings = total(run.metrics, "out_of_memory_halvings")
    sentence = (
        f"Memory ran out {halvings:.0f} times ({_first(steps)}) and the work was done again in halves. Results are the "
        "same, but slower: lower memory.budget_gib, or memory.rollouts_alive and memory.micro_batch_tokens."
    )
    return Finding("out_of_memory", "note", sentence, "--memory.budget-gib")


def _first(steps: Sequence[int], most: int = 5) -> str:
    named = ", ".join(map(str, steps[:most]))
    return f"step {named}" + (" and later" if len(steps) > most else "")


def _rate(run: Evidence, factor: float) -> str:
    return f"--optimizer.learning-rate {factor * run.config.optimizer.learning_rate:.2g}"


CHECKS = (gap, overflow, entropy, clipping, undecided, out_of_memory)
