"""Python reads this at its start where the folder is on PYTHONPATH: it puts in the card that STAND_IN_CARD names.

So that commands can be run as they are typed, with all the processes that they start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if name := os.environ.get("STAND_IN_CARD"):
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import bitsandbytes  # noqa: F401  before there is a card: it takes its CPU library
    from support.card_tensors import card

    kept = card(name)  # for as long as the process lives
    driver = kept.__enter__()
