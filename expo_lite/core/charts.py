"""What every chart shares, pictures and the app alike: colours that mean one thing each, and places for names.

The colours are those of the app on white. Right and wrong differ as teal and rust do, also to the colour-blind, and are
as dark as each other: a chart that may be printed without colour tells them apart by shape, too.
"""

from __future__ import annotations

from collections.abc import Sequence

INK, MUTED, GRID = "#1d2230", "#566073", "#e3e7ef"
RIGHT, WRONG = "#0a6b5c", "#ad3b0a"
ACCENT = "#4f46e5"
"""The trained model, and what it writes when told the answer."""
BASE = "#7f8ba3"
"""What all is measured against."""
SERIES = ("#0b62b8", "#b84a00", "#007a5e", "#9b3b82", "#8a6500", "#3d4656", "#008ba3", "#d0006f")
"""Things of one kind without an order, such as methods."""
_EASIEST, _MIDDLE, _HARDEST = (0x9A, 0xA0, 0xF7), (0x4F, 0x46, 0xE5), (0x17, 0x13, 0x52)


def level_colour(number: int, levels: int) -> str:
    """The colour of the level with this number, from 0, of so many: one hue, the harder the darker."""
    at = number / (levels - 1) if levels > 1 else 0.5
    first, second, share = (_EASIEST, _MIDDLE, 2 * at) if at < 0.5 else (_MIDDLE, _HARDEST, 2 * at - 1)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(first, second, strict=True))


def spread(wanted: Sequence[float], gap: float = 10.0, top: float = 100.0) -> list[float]:
    """Places near the wanted ones, none nearer than `gap` to another, in the same order, between 0 and `top`."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    places = [0.0] * len(wanted)
    lowest = 0.0
    for n in order:
        places[n] = lowest = max(wanted[n], lowest)
        lowest += gap
    highest = top
    for n in reversed(order):
        places[n] = highest = min(places[n], highest)
        highest -= gap
    return places
