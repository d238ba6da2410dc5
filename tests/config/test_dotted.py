"""Settings by dotted name."""

from __future__ import annotations

import pytest
from support.tiny_models import tiny_config

from expo_lite.config.dotted import differing, flat, replaced, value_of
from expo_lite.core.errors import ConfigError


def test_read_and_replaced() -> None:
    config = tiny_config()
    other = replaced(config, {"rollout.group_size": 3, "steps": 7, "data.levels": {1: 1.0}})
    assert (value_of(other, "rollout.group_size"), value_of(other, "steps"), other.data.levels) == (3, 7, {1: 1.0})
    assert replaced(config, {}) == config != other
    names = [name for name, _, _ in differing(config, other, but={"steps"})]
    assert "rollout.group_size" in names and "steps" not in names


def test_what_is_wrong_is_said_as_of_a_file() -> None:
    """Unvalidated, a group of -1 would be sampled."""
    with pytest.raises(ConfigError, match=r"^rollout\.group_size: should be .*\(got -1\)\nrollout\.size: unknown"):
        replaced(tiny_config(), {"rollout.group_size": -1, "rollout.size": 2})


def test_flat() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": None}) == {"a.b": 1, "a.c": {}, "d": None}
