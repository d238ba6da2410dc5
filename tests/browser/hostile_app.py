"""The app with a model that writes nothing but HTML, in every column and every token; tests start it as a process."""

import sys
import tempfile
from dataclasses import replace
from typing import Any

from expo_lite.commands import app
from expo_lite.studies.before_after import Comparer
from expo_lite.studies.comparison import Comparison

HOSTILE = '<script>window.hurt=1</script><img src="http://evil.example/a.png" onerror="window.hurt=1">'

_compare = Comparer.compare


def hostile(self: Comparer, *arguments: Any, **named: Any) -> Comparison:
    """A real comparison, but for its texts."""
    comparison = _compare(self, *arguments, **named)
    attempts = {
        role: replace(attempt, answer=HOSTILE, completion=replace(attempt.completion, text=HOSTILE))
        for role, attempt in comparison.attempts.items()
    }
    told = comparison.by_token
    assert told is not None
    tokens = [HOSTILE] * len(told.tokens)
    return replace(comparison, attempts=attempts, by_token=replace(told, tokens=tokens))


if __name__ == "__main__":
    Comparer.compare = hostile  # type: ignore[method-assign]
    sys.exit(app.main(["--root", tempfile.mkdtemp(), *sys.argv[1:]]))
