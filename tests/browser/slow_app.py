"""The app with its sampler slowed down to ten tokens a second; tests start it as a process of its own."""

import sys
import time
from typing import Any

from expo_lite.commands import app
from expo_lite.model.sampler import Sampler

_forward = Sampler._forward


def slowly(self: Sampler, *arguments: Any) -> Any:
    time.sleep(0.1)
    return _forward(self, *arguments)


if __name__ == "__main__":
    Sampler._forward = slowly  # type: ignore[method-assign]
    sys.exit(app.main(sys.argv[1:]))
