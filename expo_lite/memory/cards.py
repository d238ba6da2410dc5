"""What cards can do, by name: from the makers' data sheets. Imports no torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from expo_lite.config.settings import Config
from expo_lite.core.errors import ConfigError

FLASH_FROM = (8, 0)
"""Compute capability from which torch's flash attention runs, in 16 bit; below it none takes grouped queries."""


@dataclass(frozen=True)
class Card:
    """One GPU. Data centre cards' GiB are what drivers commonly report: less than the name says (error correction)."""

    gib: float
    bandwidth: float  # of memory, GB/s
    teraflops: float  # 16-bit products, summed in 32 bit, without sparsity
    capability: tuple[int, int]
    multiprocessors: int
    host: float = 1.0  # how many times longer its usual computer takes to launch a kernel than a desktop does


CARDS = {
    "T4": Card(14.6, 320, 65, (7, 5), 40, host=2),  # Colab: two virtual cores of about 2 GHz
    "RTX 3060 12GB": Card(12, 360, 25, (8, 6), 28),
    "RTX 3090": Card(24, 936, 71, (8, 6), 82),
    "RTX 4060": Card(8, 272, 30, (8, 9), 24),
    "RTX 4060 Ti 16GB": Card(16, 288, 44, (8, 9), 34),
    "RTX 4070": Card(12, 504, 58, (8, 9), 46),
    "RTX 4080": Card(16, 717, 97, (8, 9), 76),
    "RTX 4090": Card(24, 1008, 165, (8, 9), 128),
    "RTX 5090": Card(32, 1792, 209, (12, 0), 170),
    "L4": Card(22.0, 300, 121, (8, 9), 58),
    "A10": Card(22.0, 600, 125, (8, 6), 72),
    "A100 80GB": Card(79.1, 2039, 312, (8, 0), 108),
    "H100": Card(79.1, 3350, 989, (9, 0), 132),
    "B200": Card(178.4, 8000, 2250, (10, 0), 148),
}


def cards() -> str:
    """The cards that a forecast is made for, with their memory."""
    return ", ".join(f"{name} ({card.gib:g} GiB)" for name, card in CARDS.items())


def named_card(name: str) -> str:
    """The key of CARDS, written in any case. Raises ConfigError, with near ones, where there is none."""
    known = {card.lower(): card for card in CARDS}
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {known[near[0]]}? " if near else ""
        raise ConfigError(f"--card: there is no {name!r} ({hint}available: {cards()})")
    return known[name.lower()]


@dataclass(frozen=True)
class Place:
    """Where a run takes place: on a CPU or a GPU, with the GPU's GiB and compute capability where they are known."""

    on_gpu: bool
    gib: float | None = None
    capability: tuple[int, int] | None = None


def place_of(config: Config, card: str | None = None) -> Place:
    """Where the configuration runs: on a card of that name, a key of CARDS, or on one of which nothing is known."""
    on_gpu = config.policy.device != "cpu"
    return Place(on_gpu, CARDS[card].gib, CARDS[card].capability) if card and on_gpu else Place(on_gpu)


def repeats_kv(capability: tuple[int, int]) -> bool:
    """Whether grouped keys and values are repeated for attention in training: older cards' kernels cannot share them.

    There torch's memory-efficient kernel refuses grouped queries, and the one that is left writes all scores out.
    """
    return capability < FLASH_FROM
