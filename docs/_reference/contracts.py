"""The contracts: fields with shapes and meanings, the environment's methods, the markers, and every public name."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from types import FunctionType
from typing import Any

import plugrad
import plugrad.errors
from _reference.docstrings import Attribute, attributes, constants, docstring, one_line
from _reference.markdown import NOTHING, as_toml, table
from plugrad.contracts.needs import ADVANTAGE_NEEDS, LOSS_NEEDS, METRIC_NEEDS
from plugrad.lazy_names import homes_of

NEEDS = {
    "LossInputs": LOSS_NEEDS,
    "BatchLossInputs": LOSS_NEEDS,
    "AdvantageInputs": ADVANTAGE_NEEDS,
    "MetricInputs": METRIC_NEEDS,
}
SHAPE = re.compile(r"(\w+)\[Tensor, '([^']*)'\]")
DESCRIBED_BY = {"BatchLossInputs": "LossInputs"}
"""A contract whose fields mean what those of another one mean, which describes them."""


def contract(name: str) -> str:
    """Return the fields of one of the contracts."""
    described = {field.name: field.meaning for field in attributes(getattr(plugrad, DESCRIBED_BY.get(name, name)))}
    rows = [
        (f"`{field.name}`", _type_of(field), f"{field.meaning}{_need(name, field.name)}")
        for field in attributes(getattr(plugrad, name), described)
    ]
    return table(("field", "type", "meaning"), rows)


def methods(name: str) -> str:
    """Return the public methods and properties of a class, those that it shares with others first."""
    defined = {n: m for base in reversed(getattr(plugrad, name).__mro__) for n, m in vars(base).items()}
    public = {n: _function(m) for n, m in defined.items() if not n.startswith("_")}
    rows = [(f"`{n}{_arguments(m)}`", _in_prose(m)) for n, m in public.items() if m]
    return table(("method", "meaning"), rows)


def arguments(name: str) -> str:
    """Return the arguments of a function."""
    meanings = docstring(getattr(plugrad, name)).sections["Args"]
    parameters = inspect.signature(getattr(plugrad, name)).parameters.values()
    # What a decorator decorates is no argument that anybody writes.
    named = [p for p in parameters if p.name in meanings]
    return table(("argument", "default", "meaning"), [(f"`{p.name}`", _default(p), meanings[p.name]) for p in named])


def names() -> str:
    """Return every public name with what it is."""
    # Type checkers read the stub, which has no `__all__`.
    rows = [(f"`plugrad.{name}`", what_is(name)) for name in sorted(vars(plugrad)["__all__"], key=str.lower)]
    return table(("name", "what"), rows)


def errors() -> str:
    """Return the tree of errors, as the docstring of its module draws it."""
    tree = re.search(r"::\n\n((?: {4}.*\n|\n)+)", inspect.getsource(plugrad.errors))
    assert tree
    return f"```text\n{textwrap.dedent(tree[1]).strip()}\n```"


def what_is(name: str) -> str:
    """Return the first paragraph of the docstring of a public name.

    Raises:
        ValueError: it has none.
    """
    home = importlib.import_module(homes_of(plugrad.__file__).get(name, "plugrad"))
    of_constant = constants(home).get(name)
    return of_constant or one_line(docstring(getattr(plugrad, name)).summary)


def _type_of(field: Attribute) -> str:
    words = SHAPE.sub(lambda match: f"{match[1]}[{match[2]}]" if match[2] else f"{match[1]} scalar", field.annotation)
    optional = words.removesuffix(" | None")
    parts = " or ".join(f"`{part}`" for part in optional.split(" | "))
    return f"{parts} or None" if optional != words else parts


def _need(contract_name: str, field: str) -> str:
    asked = field in NEEDS.get(contract_name, ())
    if asked and field == "teacher_divergence":
        return " With `needs={TeacherDivergence(...)}`."
    return f' With `needs={{"{field}"}}`.' if asked else ""


def _function(member: Any) -> FunctionType | property | None:
    found = getattr(member, "__func__", member)
    return found if isinstance(found, FunctionType | property) else None


def _arguments(method: FunctionType | property) -> str:
    if isinstance(method, property):
        return ""
    return f"({', '.join(p for p in inspect.signature(method).parameters if p not in ('self', 'cls'))})"


def _in_prose(method: Any) -> str:
    text = docstring(method)
    return " ".join(one_line(part) for part in (text.summary, *text.rest.split("\n\n")) if part)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return NOTHING if parameter.kind is parameter.VAR_KEYWORD else "required"
    return NOTHING if parameter.default == frozenset() else as_toml(parameter.default)
