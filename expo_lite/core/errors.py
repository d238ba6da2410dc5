"""Errors that a user can act on. Entry points print their message and exit with status 2."""

from __future__ import annotations


class ExpoLiteError(Exception):
    """Base of every error that names what is wrong and what to do about it."""


class ConfigError(ExpoLiteError):
    """The configuration (preset, file or flags) is wrong or cannot run on this machine."""


class DataError(ExpoLiteError):
    """A data set or a row of it cannot be used."""


class MemoryBudgetError(ExpoLiteError):
    """The work does not fit the memory it was given."""


class CheckpointError(ExpoLiteError):
    """A run folder or checkpoint is missing, in use, or does not belong to this run."""


class DivergedError(ExpoLiteError):
    """Training produced non-finite numbers."""


def first_line(error: BaseException) -> str:
    """A library's message without its tail of advice."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
