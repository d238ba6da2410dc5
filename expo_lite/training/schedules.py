"""What a coefficient is multiplied by as training goes on."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def factor(schedule: Schedule, share: float) -> float:
    """1 at the start (share 0) and, unless constant, 0 at the end (share 1), by a line or half a cosine wave."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    return 1 - share if schedule == "linear" else 1.0
