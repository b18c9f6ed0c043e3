"""Before a model loads, state that a checkpoint would lose is told of, and methods that do not work are an error."""

import functools
import itertools
import random
import threading
from collections import deque
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from plugrad import ContractError
from plugrad.host.remembered import changed_attributes, remembered
from plugrad.host.state_trial import trying_state
from plugrad.testing.components import component_of


class Calls:
    def __init__(self):
        self.count, self.total, self.fixed = 0, {"a": [0.0]}, 1

    def call(self):
        self.count += 1
        self.total["a"][0] += 0.5


class Saved(Calls):
    def state_dict(self):
        return {"count": self.count, "total": self.total}

    def load_state_dict(self, state):
        self.count, self.total = state["count"], state["total"]


class Cache(Calls):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def tried(target):
    made = target()
    with trying_state(component_of(target, "extension"), made):
        made.call()
    return made


def test_state_that_is_not_saved_is_told_of(caplog):
    tried(Calls)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    text = record.getMessage()
    assert "the extension 'Calls'" in text
    assert "changes self.count, self.total when it is called, and has no state_dict" in text
    assert "({} if nothing does, as for a cache), and load_state_dict(self, state)." in text


@pytest.mark.parametrize("target", [Saved, Cache])
def test_declared_state_is_not_told_of(target, caplog):
    tried(target)
    assert not caplog.records


def test_declared_state_is_put_back_to_what_it_was_before():
    made = tried(Saved)
    assert (made.count, made.total) == (0, {"a": [0.0]})


def test_methods_that_do_not_work_are_an_error():
    class CannotBeSaved(Saved):
        def state_dict(self):
            return {"count": deque([self.count])}

    class Misspelt(Saved):
        def load_state_dict(self, state):
            self.count = state["counts"]

    class Half(Calls):
        def state_dict(self):
            return {}

    with pytest.raises(ContractError, match=r"state_dict\(\)\['count'\] is a deque; write list"):
        tried(CannotBeSaved)
    with pytest.raises(ContractError, match="load_state_dict raised KeyError: 'counts'"):
        tried(Misspelt)
    with pytest.raises(ContractError, match="has state_dict and no load_state_dict"):
        tried(Half)


class Slotted:
    __slots__ = ("inner",)

    def __init__(self):
        self.inner = [1]


class Kept:
    def __init__(self):
        self.kept = {
            "draw": random.Random(0),
            "generator": torch.Generator().manual_seed(0),
            "numpy": np.random.default_rng(0),
            "legacy": np.random.RandomState(0),
            "tensor": torch.zeros(3),
            "array": np.zeros(3),
            "deque": deque([1]),
            "set": {1},
            "slotted": Slotted(),
            "lock": threading.Lock(),
            "nan": float("nan"),
        }
        self.nothing = None

    @functools.cached_property
    def computed(self):
        return 7


CHANGES = {
    "draw": lambda kept: kept["draw"].random(),
    "generator": lambda kept: torch.rand(1, generator=kept["generator"]),
    "numpy": lambda kept: kept["numpy"].random(),
    "legacy": lambda kept: kept["legacy"].rand(),
    "tensor": lambda kept: kept["tensor"].data.add_(1),
    "array": lambda kept: kept["array"].fill(1),
    "deque": lambda kept: kept["deque"].append(1),
    "set": lambda kept: kept["set"].add(2),
    "slotted": lambda kept: kept["slotted"].inner.append(1),
    "new": lambda kept: kept.update(new=1),
    "type": lambda kept: kept.update(nan=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_seen_wherever_they_are(name):
    made = Kept()
    before = remembered(made)
    assert changed_attributes(before, remembered(made)) == []
    CHANGES[name](made.kept)
    assert changed_attributes(before, remembered(made)) == ["self.kept"]


def test_what_is_computed_or_opened_on_first_use_is_not_state():
    made = Kept()
    before = remembered(made)
    assert made.computed == 7
    made.nothing = threading.Lock()
    assert changed_attributes(before, remembered(made)) == []


def test_to_look_calls_no_method_of_the_authors():
    class Odd(dict):
        def refuse(self, *_):
            raise AssertionError

        items = keys = values = __iter__ = __len__ = __getitem__ = refuse

    class Reads(Mapping):
        def __init__(self):
            self.values = {"a": 1}

        def refuse(self, *_):
            raise AssertionError

        __iter__ = __len__ = __getitem__ = refuse

    made = Kept()
    made.odd, made.reads, made.within = Odd(a=1), Reads(), []
    made.within.append(made.within)
    before = remembered(made)
    assert changed_attributes(before, remembered(made)) == []
    dict.__setitem__(made.odd, "b", 1)
    made.reads.values["a"] = 2
    assert changed_attributes(before, remembered(made)) == ["self.odd", "self.reads"]


def test_large_attributes_are_read_in_part():
    made = Kept()
    made.kept = list(itertools.repeat({"prompt": "a"}, 1_000_000))
    before = remembered(made)
    made.kept.append({})
    assert changed_attributes(before, remembered(made)) == ["self.kept"]
