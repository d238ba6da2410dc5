"""pass@k, and means with intervals that stay honest where every answer is right, or none: pure functions of counts.

Letters used for shapes here: R seeds (runs), P problems.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95 % interval, as a share; as text in per cent."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.0f} [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def pass_at_k(correct: npt.ArrayLike, samples: int, k: int) -> Floats:
    """Unbiased probability that one of k samples is right, 1 - C(n - c, k) / C(n, k), for counts c of any shape.

    arXiv 2107.03374, eq. 1. ValueError if k exceeds the number of samples n.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem, there are {samples}")
    total = comb(samples, k)
    by_count = np.array([1 - comb(samples - c, k) / total for c in range(samples + 1)])
    return by_count[np.asarray(correct, dtype=np.int64)]


def share_interval(values: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Mean of shares in [0, 1], one per problem (P,), with an interval over problems."""
    return _mean(np.asarray(values, dtype=np.float64)[None], (0.0, 1.0), seed)


def mean_interval(values: npt.ArrayLike, seed: int = 0) -> Estimate:
    """Mean of numbers without known bounds (nats), one per problem (P,), with a percentile bootstrap interval."""
    values = np.asarray(values, dtype=np.float64)
    means = values[np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(values.mean()), float(low), float(high))


def seed_and_problem_interval(counts: npt.ArrayLike, samples: int, k: int, seed: int = 0) -> Estimate:
    """Mean pass@k of right answers (R, P), out of `samples` each, with an interval over seeds and problems.

    With one seed it speaks for that seed's weights only.
    """
    return _mean(pass_at_k(counts, samples, k), (0.0, 1.0), seed)


def paired_difference(a: npt.ArrayLike, b: npt.ArrayLike, samples: int, k: int, seed: int = 0) -> Estimate:
    """Mean pass@k of `a` minus that of `b`, in [-1, 1], for counts (R, P) of the same seeds on the same problems.

    Resampled in pairs: what makes a problem hard for both is not in the interval. ValueError if the shapes differ.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"paired counts should have one shape, not {np.shape(a)} and {np.shape(b)}")
    return _mean(pass_at_k(a, samples, k) - pass_at_k(b, samples, k), (-1.0, 1.0), seed)


def _mean(values: Floats, ends: tuple[float, float], seed: int) -> Estimate:
    """Mean of `values` (R, P), which can lie anywhere between `ends`.

    Problems: the Bayesian bootstrap (Rubin 1981), with one more problem that comes out worst for the lower bound, and
    best for the upper. That is Gaffke's bound for the mean of a bounded variable (arXiv 1905.06208); for
    right and wrong it is Clopper and Pearson's interval, which for n of n right begins at 0.025^(1/n), about 1 - 3.7/n.
    A plain bootstrap says [100, 100] there. Seeds: a handful, so that resampling them would be too narrow; their mean
    is drawn from Student's t with R - 1 degrees of freedom around the one observed.
    """
    rng = np.random.default_rng(seed)
    by_seed, by_problem = values.mean(1), values.mean(0)
    weights = rng.standard_exponential((RESAMPLES, len(by_problem) + 1))
    weights /= weights.sum(1, keepdims=True)  # Dirichlet(1, ..., 1)
    of_seeds = 0.0
    if len(by_seed) > 1:
        deviation = by_seed.std(ddof=1) / sqrt(len(by_seed))
        of_seeds = deviation * rng.standard_t(len(by_seed) - 1, size=RESAMPLES)
    worst, best = (weights @ np.append(by_problem, end) + of_seeds for end in ends)
    tail = (1 - CONFIDENCE) / 2
    mean = float(values.mean())
    low, high = float(np.quantile(worst, tail)), float(np.quantile(best, 1 - tail))
    return Estimate(mean, max(ends[0], min(low, mean)), min(ends[1], max(high, mean)))
