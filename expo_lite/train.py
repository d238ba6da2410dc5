"""`python -m expo_lite.train ...` is `expo-lite train ...`."""

from __future__ import annotations

import sys

from expo_lite.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
