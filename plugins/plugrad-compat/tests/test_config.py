"""The config that foreign code is handed."""

from __future__ import annotations

import pickle

import pytest

from plugrad_compat.adapters.config import Config


def test_it_is_read_as_a_mapping_and_by_attributes() -> None:
    config = Config({"a": 1, "table": {"b": 2}}, {"a": 0, "c": 3, "table": {"d": 4}})
    assert (config["a"], config.a, config.get("c", 9), config.get("missing", 9)) == (1, 1, 3, 9)
    assert (config.table.b, config["table"]["d"], config.table.get("e")) == (2, 4, None)
    assert dict(**config.table) == {"d": 4, "b": 2}
    assert sorted(config) == ["a", "c", "table"]
    assert "a" in config
    assert "missing" not in config


def test_what_nobody_read_is_known_by_its_path() -> None:
    config = Config({"read": 1, "unread": 2, "table": {"read": 3, "unread": 4}}, {"default": 5})
    assert config.read + config.table.read == 4
    assert config.unread() == ["table.unread", "unread"]
    assert "unread" in config
    assert config.unread() == ["table.unread"]


def test_going_over_it_reads_everything() -> None:
    config = Config({"a": 1, "b": 2})
    assert dict(config) == {"a": 1, "b": 2}
    assert config.unread() == []


def test_a_key_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match=r"the config has no 'clip'; it has eps_clip_high, eps_clip_low"):
        Config({"eps_clip_low": 0.1, "eps_clip_high": 0.2}).clip  # noqa: B018


def test_it_is_read_only_and_pickles() -> None:
    config = Config({"a": 1})
    with pytest.raises(AttributeError, match="read-only: 'a'"):
        config.a = 2
    assert pickle.loads(pickle.dumps(config)).a == 1
