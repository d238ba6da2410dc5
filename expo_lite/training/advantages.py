"""Group advantages: how much better than its siblings a rollout did."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

STABILISER = 1e-4  # TRL's, added to the deviation


def group_advantages(
    rewards: npt.ArrayLike, scale: Literal["group", "batch", "none"] = "group"
) -> npt.NDArray[np.float64]:
    """Advantages (P, G) of rewards (P, G): centred by group, divided by a standard deviation.

    scale: "group" the group's own (GRPO), "batch" that of all P G rewards, "none" 1 (Dr. GRPO).
    Deviations are Bessel-corrected as in TRL, hence G >= 2; ValueError otherwise. A group whose
    rewards are all equal gets exactly 0.
    """
    rewards = np.asarray(rewards, dtype=np.float64)
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards must have shape (P, G) with G >= 2, got {rewards.shape}")
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    centred[np.ptp(rewards, axis=1) == 0] = 0.0  # the mean of equal numbers can be off by one rounding
    if scale == "none":
        return centred
    deviation = rewards.std(axis=1, ddof=1, keepdims=True) if scale == "group" else rewards.std(ddof=1)
    return centred / (deviation + STABILISER)
