"""The browser app: `python app.py`. It only builds and launches; everything is in expo_lite."""

import sys

from expo_lite.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
