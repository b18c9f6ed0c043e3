"""The state of a plugin: a copy of plain values, that a checkpoint can hold and that shares nothing with the plugin."""

import datetime
import io
import pathlib
import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest
import torch

from plugrad import ContractError
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.environment import BoundEnvironment
from plugrad.host.labels import labels_of
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.host.plugin_state import restore_state, state_of
from plugrad.host.stateful_parts import stateful_parts
from plugrad.testing.components import component_of


class Keeps:
    def __init__(self, kept=None):
        self.kept = {} if kept is None else kept

    def state_dict(self):
        return self.kept

    def load_state_dict(self, state):
        self.kept = state

    def __call__(self, inputs):
        raise AssertionError


class Plain:
    def __call__(self, inputs):
        raise AssertionError


class Environment(Keeps):
    def train_examples(self):
        return [{"prompt": "1"}]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        return [0.0 for _ in rollouts]


def component(target=Keeps, kind="extension"):
    return component_of(target, kind)


def state(kept):
    return state_of(component(), Keeps(kept))


def through_a_file(saved):
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


HELD = {
    "number": 1,
    "large": 10**30,
    "nan": float("nan"),
    "complex": 1j,
    "flag": True,
    "text": "漢字",
    "bytes": b"\x00",
    "nothing": None,
    "random": random.Random(3).getstate(),
    "numpy": np.random.default_rng(3).bit_generator.state,
    "generator": torch.Generator().manual_seed(3).get_state(),
    "sets": {1, (2, "a")},
    "counts": Counter("aab"),
    "ordered": OrderedDict(b=1, a=2),
    "keys": {(1, 2): 3, None: 4, 0.5: 5},
    "bfloat16": torch.ones(2, dtype=torch.bfloat16),
    "dtype": torch.float16,
    "shape": torch.Size([2, 3]),
}


@pytest.mark.parametrize("name", HELD)
def test_what_is_plain_comes_back_as_it_was(name):
    saved = state({name: HELD[name]})
    back = through_a_file(saved)
    assert type(back[name]) is type(saved[name]) is type(HELD[name])
    assert repr(back) == repr(saved) == repr({name: HELD[name]})


def test_a_saved_state_shares_nothing_with_the_plugin():
    tensor = torch.zeros(2)
    plugin = Keeps({"inner": {"list": [1, {2}]}, "tensor": tensor, "same": tensor})
    saved = state_of(component(), plugin)
    plugin.kept["inner"]["list"][1].add(3)
    plugin.kept["inner"]["list"].append(4)
    plugin.kept["new"] = 5
    tensor += 1
    assert repr(saved) == repr({"inner": {"list": [1, {2}]}, "tensor": torch.zeros(2), "same": torch.zeros(2)})


def test_a_restored_state_is_shared_with_nobody():
    saved = {"list": [1], "tensor": torch.zeros(2)}
    one, other = Keeps(), Keeps()
    restore_state(component(), one, saved)
    restore_state(component(), other, saved)
    one.kept["list"].append(2)
    one.kept["tensor"] += 1
    assert repr(other.kept) == repr(saved) == repr({"list": [1], "tensor": torch.zeros(2)})


def test_tensors_are_saved_without_graph_and_without_what_they_are_a_part_of():
    part = (torch.ones(1000, requires_grad=True) * 2)[:2]
    saved = state({"part": part, "parameter": torch.nn.Parameter(torch.ones(1))})
    assert not saved["part"].requires_grad
    assert type(saved["parameter"]) is torch.Tensor
    assert saved["part"].untyped_storage().nbytes() == 8


class Color(Enum):
    RED = 1


@dataclass
class Pair:
    left: int = 1


Point = namedtuple("Point", "x")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (deque([1]), "a deque; write list"),
        (defaultdict(int), "a defaultdict; write dict"),
        (frozenset(), "a frozenset; write set"),
        (np.zeros(1), r"a numpy.ndarray; write torch.tensor\(...\), or .tolist"),
        (np.float64(1), r"a numpy.float64; write .item"),
        (random.Random(0), r"a random.Random; write .getstate"),
        (torch.Generator(), r"a torch._C.Generator; write .get_state"),
        (np.random.default_rng(0), "Generator; write .bit_generator.state"),
        (torch.nn.Linear(1, 1), r"Linear; write its state_dict\(\)"),
        (Color.RED, r"Color; write its .value"),
        (Pair(), r"Pair; write dataclasses.asdict"),
        (Point(1), r"Point; write tuple"),
        (pathlib.PurePosixPath("a"), r"write str"),
        (datetime.datetime(2026, 1, 1), r"write .isoformat"),
        (lambda: 0, "a function; leave it out: code is no state"),
        (Plain(), "Plain; write the numbers and texts in it"),
        (iter([]), "a list_iterator; write how far it has come"),
        (torch.ones(1, device="meta"), "on the device `meta`; create it on the CPU"),
        ({Plain: 1}, "a type; leave it out"),
        ({(1, Plain()): 1}, "Plain; write the numbers and texts in it"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_a_checkpoint_cannot_hold_is_named_with_its_place_and_a_remedy(value, seen):
    with pytest.raises(ContractError, match=rf"the extension 'Keeps' .*: state_dict\(\)\['pools'\]\[1\].* is .*{seen}"):
        state({"pools": [0, value]})


def test_a_state_that_contains_itself_is_refused():
    kept = {}
    kept["self"] = kept
    with pytest.raises(ContractError, match="nested more than 50 levels deep; write it flat, and nothing into itself"):
        state(kept)


def test_one_method_without_the_other_is_refused():
    class Saves:
        def state_dict(self):
            return {}

    class Loads:
        def load_state_dict(self, state):
            pass

    class Holds:
        state_dict = {}  # noqa: RUF012
        load_state_dict = None

    with pytest.raises(ContractError, match=r"has state_dict and no load_state_dict, .* restored\. Write load_state"):
        state_of(component(Saves), Saves())
    with pytest.raises(ContractError, match=r"has load_state_dict and no state_dict, .* saved\. Write state_dict"):
        restore_state(component(Loads), Loads(), {})
    with pytest.raises(ContractError, match="has an attribute state_dict, which is no method"):
        state_of(component(Holds), Holds())


def test_what_a_method_raises_names_the_plugin():
    class Raises(Keeps):
        def load_state_dict(self, state):
            self.kept = state["missing"]

    with pytest.raises(ContractError, match=r"the extension 'Raises' .*\.load_state_dict raised KeyError: 'missing'"):
        restore_state(component(Raises), Raises(), {})


def test_a_function_has_no_state():
    def nothing(inputs):
        return {}

    made = component_of(nothing, "metric")
    assert state_of(made, made.create()) == {}
    with pytest.raises(ContractError, match="has no load_state_dict, but was given a state with a, b"):
        restore_state(made, made.create(), {"b": 1, "a": 2})


def test_the_parts_of_a_run_that_keep_state_have_keys_of_their_own():
    def made(kind, target=Keeps):
        return component(target, kind)

    environment = BoundEnvironment.create(made("environment", Environment))
    losses = [BoundLoss.create(made("loss"), label=label, weight=1.0, reduction="token") for label in ("kl", "kl_2")]
    extensions = [(made("extension"), Keeps({"place": place})) for place in range(2)]
    parts = stateful_parts(
        environment=environment,
        advantage=BoundAdvantage(made("advantage", Plain), Plain()),
        losses=losses,
        metrics=[BoundMetric(made("metric"), Keeps(), "reward")],
        extensions=extensions,
    )
    keys = ["environment/Environment", "loss/kl", "loss/kl_2", "metric/reward", "extension/Keeps", "extension/Keeps_2"]
    assert [part.key for part in parts] == keys
    assert parts[1].instance is losses[0].instance
    assert parts[-1].state() == {"place": 1}
    parts[-1].restore({"place": 2})
    assert extensions[1][1].kept == {"place": 2}


def test_labels_differ_whatever_the_names_are():
    assert labels_of(["kl", "kl_2", "kl", "kl"]) == ["kl", "kl_2", "kl_3", "kl_4"]
