"""pass@k against all subsets and by hand; intervals against simulations in which the truth is known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from expo_lite.grading.intervals import (
    Estimate,
    mean_interval,
    paired_difference,
    pass_at_k,
    seed_and_problem_interval,
    share_interval,
)

REPETITIONS = 200  # 0.95 can come out as 0.91 by chance


def coverage(estimate: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    """The share of repetitions whose interval holds the truth."""
    rng = np.random.default_rng(1)
    found = [estimate(rng) for _ in range(REPETITIONS)]
    assert all(e.low <= e.mean <= e.high for e in found)
    return float(np.mean([e.low <= truth <= e.high for e in found]))


class TestPassAtK:
    @pytest.mark.parametrize("samples", [1, 2, 5, 7])
    def test_it_is_the_share_of_k_subsets_with_a_right_answer(self, samples: int) -> None:
        for k in range(1, samples + 1):
            for correct in range(samples + 1):
                answers = [i < correct for i in range(samples)]
                expected = np.mean([any(subset) for subset in combinations(answers, k)])
                assert pass_at_k([correct], samples, k)[0] == pytest.approx(expected)

    def test_by_hand_in_the_shape_of_the_counts(self) -> None:
        """1 - (3 choose 2) / (4 choose 2) and so on."""
        assert pass_at_k([[0, 1], [2, 3]], 4, 2) == pytest.approx(np.array([[0, 1 / 2], [5 / 6, 1]]))

    def test_many_samples(self) -> None:
        assert pass_at_k([1, 200], 200, 64) == pytest.approx([64 / 200, 1])

    @pytest.mark.parametrize("k", [0, 5])
    def test_it_needs_k_samples(self, k: int) -> None:
        with pytest.raises(ValueError, match="4"):
            pass_at_k([1], 4, k)


class TestOverProblems:
    @pytest.mark.parametrize("problems", [32, 128])
    @pytest.mark.parametrize("truth", [0.01, 0.03, 0.1, 0.4, 0.97])
    def test_right_and_wrong(self, truth: float, problems: int) -> None:
        """As Clopper and Pearson's, it may cover more than 99 % near the ends, where few outcomes are possible."""
        covered = coverage(lambda rng: share_interval(rng.random(problems) < truth), truth)
        assert 0.91 <= covered <= (0.99 if 0.1 < truth < 0.9 else 1)

    @pytest.mark.parametrize(("a", "b"), [(0.1, 3), (0.5, 0.5), (2, 2), (40, 40), (8, 0.2)])
    def test_pass_at_1_of_problems_of_all_kinds(self, a: float, b: float) -> None:
        """Each problem's own chance is drawn from a beta distribution; four samples of it are seen."""
        covered = coverage(lambda rng: share_interval(rng.binomial(4, rng.beta(a, b, 64)) / 4), a / (a + b))
        assert 0.91 <= covered <= 0.995

    @pytest.mark.parametrize("right", [0, 1, 20, 63, 64])
    def test_for_right_and_wrong_it_is_clopper_and_pearsons(self, right: int) -> None:
        """By the definition of their bounds: there, so few or so many right have a chance of 2.5 %."""
        found = share_interval([1.0] * right + [0.0] * (64 - right))
        trials = np.random.default_rng(0)
        more = np.mean(trials.binomial(64, found.low, 200_000) >= right)
        fewer = np.mean(trials.binomial(64, found.high, 200_000) <= right)
        assert found.low == 0 if right == 0 else more == pytest.approx(0.025, abs=0.012)
        assert found.high == 1 if right == 64 else fewer == pytest.approx(0.025, abs=0.012)

    def test_equal_values_are_no_certainty(self) -> None:
        all_right = share_interval([1.0] * 64)
        assert (all_right.mean, all_right.high) == (1, 1)
        assert all_right.low == pytest.approx(0.025 ** (1 / 64), abs=0.01)
        quarter = share_interval([0.25] * 9)
        assert 0 < quarter.low < 0.22 and 0.3 < quarter.high < 0.6

    def test_numbers_without_bounds(self) -> None:
        """Nats can lie anywhere: nothing is clipped, and in a simulation the truth is in it."""
        covered = coverage(lambda rng: mean_interval(rng.normal(-30.0, 8.0, 64)), -30.0)
        assert 0.9 <= covered <= 0.99
        found = mean_interval([-34.0, -30.0, -36.0, -33.0])
        assert found.mean == -33.25 and -36 <= found.low < found.mean < found.high <= -30

    def test_the_same_each_time(self) -> None:
        assert share_interval([0.0, 1.0, 0.5]) == share_interval([0.0, 1.0, 0.5])
        assert str(Estimate(0.25, 0.1, 0.406)) == "25 [10, 41]"


def counts(rng: np.random.Generator, spread: float, seeds: int = 4, shift: float = 0.0) -> np.ndarray:
    """Right answers of 16 for 64 problems of different difficulty, by seeds that differ by `spread` in logits."""
    logits = rng.normal(0, 1.5, 64)[None] + rng.normal(0, spread, seeds)[:, None] + shift
    return rng.binomial(16, 1 / (1 + np.exp(-logits)))


class TestOverSeedsAndProblems:
    @pytest.mark.parametrize("seeds", [2, 5])
    @pytest.mark.parametrize("spread", [0.0, 1.0])
    def test_it_covers(self, spread: float, seeds: int) -> None:
        covered = coverage(lambda rng: seed_and_problem_interval(counts(rng, spread, seeds), 16, 1), 0.5)
        assert 0.91 <= covered <= (0.99 if seeds > 2 and spread == 1 else 1)

    def test_seeds_that_differ_make_it_wider(self) -> None:
        alike = seed_and_problem_interval([[8] * 50] * 4, 16, 1)
        apart = seed_and_problem_interval([[6] * 50, [7] * 50, [9] * 50, [10] * 50], 16, 1)
        assert alike.mean == apart.mean == 0.5
        assert apart.high - apart.low > 2 * (alike.high - alike.low)

    def test_one_seed_is_problems_only(self) -> None:
        row = counts(np.random.default_rng(0), 0.0, seeds=1)
        assert seed_and_problem_interval(row, 16, 4) == share_interval(pass_at_k(row[0], 16, 4))


class TestPairedDifference:
    @pytest.mark.parametrize("seeds", [1, 3])
    def test_it_covers(self, seeds: int) -> None:
        """Both methods meet the same problems; the truth is the mean over many."""

        def pair(rng: np.random.Generator, seeds: int = seeds, problems: int = 64) -> tuple[np.ndarray, np.ndarray]:
            hard, of_seed = rng.normal(0, 2, problems), rng.normal(0, 0.3 if several else 0, (2, seeds, 1))
            easier, harder = (rng.binomial(16, 1 / (1 + np.exp(-(hard + of_seed[n] + 0.8 * n)))) for n in (1, 0))
            return easier, harder

        several = seeds > 1
        a, b = pair(np.random.default_rng(5), 300, 5000)
        covered = coverage(lambda rng: paired_difference(*pair(rng), samples=16, k=1), float(a.mean() - b.mean()) / 16)
        assert 0.91 <= covered <= 1.0

    def test_pairs_are_kept(self) -> None:
        """What is hard for one is hard for the other: far narrower than the two means are."""
        rng = np.random.default_rng(2)
        a = np.where(rng.random(200) < 0.5, 16, 4)[None]
        paired, alone = paired_difference(a, a - 2, 16, 1), seed_and_problem_interval(a, 16, 1)
        assert paired.mean == pytest.approx(0.125)
        assert paired.high - paired.low < 0.4 * (alone.high - alone.low)

    def test_by_hand_and_within_its_range(self) -> None:
        found = paired_difference([[4, 4]], [[0, 2]], 4, 2)  # 1 - 0, and 1 - 5/6
        assert found.mean == pytest.approx((1 + 1 / 6) / 2)
        best = paired_difference([[4] * 50], [[0] * 50], 4, 1)
        assert (best.mean, best.high) == (1, 1) and 0.8 < best.low < 0.95
        same = paired_difference([[4] * 50], [[4] * 50], 4, 1)
        assert (
            same.mean == 0 and same.low == pytest.approx(-0.07, abs=0.02) and same.high == pytest.approx(0.07, abs=0.02)
        )

    def test_unpaired_counts(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            paired_difference([[1, 2]], [[1]], 4, 1)
