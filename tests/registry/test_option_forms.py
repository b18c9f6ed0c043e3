"""The resolved run file repeats the run: what is bound, written and read is the same object again, or it is refused."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import os
import pathlib
import subprocess
import sys
import tomllib
import typing
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import pytest
import torch
from pydantic import BaseModel, Field

from plugrad import CallableReference, OptionError, PluginError, RunFile, RunFileError
from plugrad.config.reading import write_run_file
from plugrad.registry.bind import bind
from plugrad.registry.option_forms import recorded, same
from plugrad.registry.provenance import record
from plugrad.registry.resolve import Source
from plugrad.trainer.record.run_diff import EarlierRun
from plugrad.trainer.record.run_folder import open_run_folder


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Named(str, enum.Enum):  # noqa: UP042 - what users have
    ONE = "one"


class Flags(enum.Flag):
    A = 1
    B = 2


class Odd(enum.Enum):
    PAIR = (1, 2)


class Pair(NamedTuple):
    left: int
    right: float = 0.5


@dataclasses.dataclass
class Clip:
    low: float = 0.2
    high: float | None = None
    colour: Colour = Colour.RED
    inner: typing.Optional["Clip"] = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    names: tuple[str, ...] = ()


class Model(BaseModel):
    width: int = 3
    colours: list[Colour] = []


class Opaque: ...


DAY = datetime.date(2026, 1, 2)
REPEATED = [
    (bool, True),
    (int, 3),
    (int, -(2**70)),
    (float, 0.1),
    (float, math.nan),
    (float, math.inf),
    (float, -0.0),
    (str, "\x00\x1b\u2028\"'\\\r\n é"),
    (bytes, b"plain"),
    (pathlib.Path, pathlib.Path("somewhere/else")),
    (CallableReference, "math:sqrt"),
    (list[CallableReference], ["math:sqrt"]),
    (Colour, Colour.BLUE),
    (Level, Level.LOW),
    (Named, Named.ONE),
    (Flags, Flags.A | Flags.B),
    (Literal["a", 3], 3),
    (Pair, Pair(1, 2.0)),
    (Clip, Clip(0.1, inner=Clip(colour=Colour.BLUE))),
    (Frozen, Frozen(("a", "b"))),
    (Model, Model(width=4, colours=[Colour.RED])),
    (datetime.date, DAY),
    (datetime.datetime, datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)),
    (datetime.time, datetime.time(3, 4)),
    (datetime.timedelta, datetime.timedelta(days=1, microseconds=3)),
    (decimal.Decimal, decimal.Decimal("0.10")),
    (uuid.UUID, uuid.UUID(int=3)),
    (complex, 1 + 2j),
    (fractions.Fraction, fractions.Fraction(1, 3)),
    (torch.dtype, torch.bfloat16),
    (torch.dtype | None, torch.float64),
    (list[torch.dtype], [torch.float32]),
    (list[float], [0.1, math.nan, math.inf]),
    (list[list[int]], [[1], []]),
    (tuple[int, str], (1, "a")),
    (tuple[Colour, ...], (Colour.RED, Colour.BLUE)),
    (set[str], {"a", "b", "c"}),
    (frozenset[Colour], frozenset(Colour)),
    (dict[str, float], {"a": 1.0, "b": math.nan}),
    (dict[int, str], {1: "a"}),
    (dict[Colour, Clip], {Colour.RED: Clip()}),
    (Clip | None, Clip(0.3)),
    (Annotated[float, Field(ge=0)], 0.5),
    (Any, {"a": [1, 2.0, "x", True, {"b": math.nan}]}),
]
REFUSED = [
    (Odd, Odd.PAIR, "Annotate it with a type that TOML can hold"),
    (range, range(3), r"Annotate it list\[int\]"),
    (Callable, math.sqrt, "Annotate it plugrad.CallableReference"),
    (Callable[[float], float], math.sqrt, "Annotate it plugrad.CallableReference"),
    (type, int, "Annotate it plugrad.CallableReference"),
    (Opaque, Opaque(), "Annotate it with a type that TOML can hold"),
    (bytes, b"\xff", "Annotate it with a type that TOML can hold"),
    (float | None, None, "TOML has no null"),
    (list[float | None], [0.1, None], "TOML has no null"),
    (dict[str, float | None], {"a": None}, "TOML has no null"),
    (Any, [None], "TOML has no null"),
    (Any, {"a": {"b": None}}, "TOML has no null"),
    (Any, Colour.RED, "Annotate it Colour"),
    (Any, Named.ONE, "Annotate it Named"),
    (Any, Clip(), "Annotate it Clip"),
    (Any, (1, 2), "Annotate it tuple"),
    (Any, {1, 2}, "Annotate it set"),
    (Any, DAY, "Annotate it date"),
    (Any, torch.float32, "Annotate it dtype"),
    (Any, pathlib.Path("a"), "Annotate it PosixPath"),
    (Any, range(3), r"Annotate it list\[int\]"),
    (Any, [DAY], "Annotate it with a type that TOML can hold"),
    (Any, {1: 2}, "Annotate it with a type that TOML can hold"),
    (Any, Colour, "Annotate it plugrad.CallableReference"),
    (Any, lambda: 1, "Annotate it plugrad.CallableReference"),
    (Any, "\ud800", "Annotate it with a type that TOML can hold"),
    (Any, 10**5000, "Annotate it with a type that TOML can hold"),
]


def names(table):
    return [f"{getattr(row[0], '__name__', row[0])}-{index}" for index, row in enumerate(table)]


def taking(annotation, default):
    def loss(inputs, option: annotation = default): ...

    return loss


def bound(loss, given):
    component = bind(Source("loss", "mine:loss", "loss", "mine:loss"), loss, given)
    # As a run does; a loop of one's own takes any value.
    _ = component.forms
    return component


def read_again(component, folder):
    """Write the options as a resolved run file has them, and read them."""
    run_file = RunFile(
        model={"name": "a/model"}, environment={"name": "a"}, loss={"name": "loss", "kwargs": dict(component.forms)}
    )
    write_run_file(run_file, folder / "run.toml")
    return RunFile.load(folder / "run.toml").loss[0].kwargs


@pytest.mark.parametrize(("annotation", "value"), REPEATED, ids=names(REPEATED))
def test_an_option_is_the_same_after_writing_and_reading(annotation, value, tmp_path):
    for default, given in ((None, {"option": value}), (value, {})):
        component = bound(taking(annotation, default), given)
        again = bound(component.target, read_again(component, tmp_path))
        assert same(again.options["option"], value)
        assert component.forms.keys() == {"option"}
        assert same(component.forms, again.forms)


@pytest.mark.parametrize(("annotation", "value", "remedy"), REFUSED, ids=names(REFUSED))
def test_an_option_that_no_run_file_can_repeat_is_refused(annotation, value, remedy):
    with pytest.raises(OptionError, match=remedy) as caught:
        bound(taking(annotation, 0.5), {"option": value})
    assert str(caught.value).startswith("[loss] 'loss' (mine): the option 'option' is ")


@pytest.mark.parametrize(("annotation", "value", "remedy"), REFUSED, ids=names(REFUSED))
def test_such_a_default_is_left_out_of_the_run_file_and_recorded_the_same_way_each_time(annotation, value, remedy, tmp_path):
    component = bound(taking(annotation, value), {})
    assert component.options["option"] is value
    assert component.forms == {}
    assert bound(component.target, read_again(component, tmp_path)).options["option"] is value
    assert "0x" not in str(recorded(component.options, component.forms))


def test_what_is_given_may_be_the_default():
    assert bound(taking(Any, None), {"option": None}).options == {"option": None}
    assert bound(taking(Callable, math.sqrt), {"option": math.sqrt}).forms == {}


@pytest.mark.parametrize(
    ("annotation", "given", "key"),
    [
        (Clip, {"lwo": 0.1}, "'lwo'"),
        (Clip, {"inner": {"low": 0.1, "hihg": 1.0}}, "'inner.hihg'"),
        (list[Clip], [{}, {"lwo": 0.1}], "'1.lwo'"),
        (Clip | None, {"lwo": 0.1}, "'lwo'"),
        (dict[str, Clip], {"a": {"lwo": 0.1}}, "'a.lwo'"),
        (Model, {"widht": 1}, "'widht'"),
    ],
)
def test_an_unknown_key_inside_an_option_is_refused_by_name(annotation, given, key):
    with pytest.raises(OptionError, match=f"there is no key {key}. Its keys: (low, high|width, colours)"):
        bound(taking(annotation, None), {"option": given})


@pytest.fixture
def in_a_process():
    def run(code, seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    return run


def test_a_set_is_written_in_the_same_order_by_every_process(in_a_process):
    code = (
        "from plugrad.registry.bind import bind; from plugrad.registry.resolve import Source\n"
        "from plugrad.registry.option_forms import recorded\n"
        "def loss(inputs, names: set[str] = set('abcdefgh'), bare=frozenset('abcdefgh')): ...\n"
        "component = bind(Source('loss', 'm:l', 'l', 'm:l'), loss, {})\n"
        "print(recorded(component.options, component.forms))"
    )
    assert len({in_a_process(code, seed) for seed in "123"}) == 1


class Unready:
    """Its annotation cannot be read by pydantic, and it cannot be written."""

    def __get_pydantic_core_schema__(self, *rest):
        raise RuntimeError("no")


def test_an_annotation_that_nothing_can_be_checked_against_is_an_error_of_ours():
    with pytest.raises(OptionError, match=r"the option 'option' is 3, which is not list\[.*Unready"):
        bound(taking(list[Annotated[int, Unready()]], None), {"option": 3})


@pytest.mark.parametrize(
    "value", [[None], {"a": [1, None]}, Opaque(), math.sqrt, {"\ud800": 1}, "\ud800", 10**5000], ids=range(7)
)
def test_what_a_run_file_cannot_hold_is_an_error_of_ours_when_it_is_written(value, tmp_path):
    tables = {"environment": {"name": "a"}, "model": {"name": "a"}}
    with pytest.raises(RunFileError, match="cannot be written"):
        write_run_file(RunFile(**tables, loss={"name": "a", "kwargs": {"x": value}}), tmp_path / "run.toml")


def test_like_sees_no_difference_between_a_run_and_its_repetition(tmp_path):
    component = bound(taking(Any, Opaque()), {})
    more = bound(taking(dict[str, float], None), {"option": {"a": math.nan}})
    tables = {
        "environment": {"name": "a", "kwargs": {"x": math.nan}},
        "model": {"from_scratch": {"model_type": "a", "b": math.nan}},
    }
    run_file = RunFile(**tables, loss=[{"name": "loss", "kwargs": dict(more.forms)}])
    plugins = [
        {
            "versions": {},
            "components": [
                {"kind": "loss", "reference": "r", "target": "t", "options": recorded(each.options, each.forms)}
                for each in (component, bound(taking(Any, Opaque()), {}) if again else component, more)
            ],
        }
        for again in (False, True)
    ]
    write_run_file(run_file, tmp_path / "run.toml")
    earlier = EarlierRun(tmp_path, tomllib.loads((tmp_path / "run.toml").read_text()), plugins[0])
    assert earlier.differences(run_file, plugins[1]) == []


SECRET = "Zq8vLw3RtY7uPd5sXk2n"


def test_a_secret_is_refused_and_an_authors_own_is_neither_written_nor_shown():
    class Judge:
        def __init__(self, api_key: str = SECRET, retries: int = 3) -> None:
            raise RuntimeError("no judge")

    source = Source("environment", "mine:Judge", "Judge", "mine:Judge")
    component = bind(source, Judge, {})
    assert component.forms == {"retries": 3}
    assert SECRET not in str(recorded(component.options, component.forms))
    given = bind(source, Judge, {"api_key": f"{SECRET}1"})
    for refuse in (lambda: given.forms, given.create, lambda: bind(source, Judge, {"api_key": [SECRET]})):
        with pytest.raises(PluginError, match="api_key") as caught:
            refuse()
        assert SECRET not in str(caught.value)


@dataclasses.dataclass
class Bounds:
    low: float = -math.inf
    high: float = math.nan


NOT_FINITE = [
    (float, math.inf),
    (float, -math.inf),
    (float, math.nan),
    (list[float], [0.5, math.nan]),
    (dict[str, float], {"a": -math.inf}),
    (Bounds, Bounds()),
    (Any, {"a": [math.inf]}),
]


@pytest.mark.parametrize(("annotation", "value"), NOT_FINITE, ids=names(NOT_FINITE))
@pytest.mark.parametrize("as_earlier", [False, True])
def test_a_record_with_numbers_that_json_does_not_have_is_read_again(annotation, value, as_earlier, tmp_path):
    component = bound(taking(annotation, None), {"option": value})
    tables = {"environment": {"name": "a"}, "model": {"name": "a"}, "output_dir": str(tmp_path / "run")}
    run_file = RunFile(**tables, loss={"name": "loss", "kwargs": dict(component.forms)})
    plugins = record([component])
    folder = open_run_folder(run_file, plugins)
    if as_earlier:
        plugins["components"][0]["options"] = recorded(component.options, component.forms)
        (folder / "plugins.json").write_text(json.dumps(plugins))
        plugins = record([component])
    assert EarlierRun.read(folder).differences(run_file, plugins) == []
    other = bound(taking(annotation, None), {})
    assert [each.what for each in EarlierRun.read(folder).differences(run_file, record([other]))] == [
        f"loss {component.source.reference}: option"
    ]
