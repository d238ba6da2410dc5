"""`python -m expo_lite NAME ...` is `expo-lite NAME ...`."""

from __future__ import annotations

import sys

from expo_lite.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
