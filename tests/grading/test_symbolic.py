"""What the worker's part does where expressions are no expressions; what it calls equal is in data/verdicts.tsv."""

from __future__ import annotations

from typing import Any

import pytest

from expo_lite.grading import symbolic
from expo_lite.grading.symbolic import mathematically_agree

ROOTS = (r"2\sqrt{3}", r"\sqrt{12}")


@pytest.mark.parametrize("error", [ValueError, RecursionError, NotImplementedError])
def test_what_cannot_be_read_is_not_equal(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    assert mathematically_agree(*ROOTS)
    monkeypatch.setattr(symbolic, "_parsed", raising(error))
    assert not mathematically_agree(*ROOTS)


def test_out_of_memory_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "_parsed", raising(MemoryError))
    with pytest.raises(MemoryError):
        mathematically_agree(*ROOTS)


def test_brackets_hundreds_deep() -> None:
    assert not mathematically_agree("1", r"\{" * 240 + "2" + r"\}" * 240)


def raising(error: type[BaseException]) -> Any:
    def raise_it(_text: str) -> None:
        raise error

    return raise_it
