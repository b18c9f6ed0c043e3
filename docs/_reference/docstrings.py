"""Docstrings: of attributes, which Python drops, and cut into their sections."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType

SECTION = re.compile(r"^(Args|Reports|Returns|Raises|Yields):$", flags=re.MULTILINE)
ENTRY = re.compile(r"^    (?P<name>[\w/]+): (?P<meaning>.*(?:\n {5,}.*)*)", flags=re.MULTILINE)


@dataclass(frozen=True)
class Docstring:
    """A docstring in its parts."""

    summary: str
    """The first paragraph, its lines as they are."""
    rest: str
    """The paragraphs between the summary and the first section."""
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    """The entries of `Args:` and `Reports:`, by name."""


@dataclass(frozen=True)
class Attribute:
    """An annotated attribute of a class, as it is written."""

    name: str
    annotation: str
    default: str | None
    meaning: str


def docstring(described: object) -> Docstring:
    """Return the docstring of a function or class.

    Raises:
        ValueError: it has none.
    """
    text = inspect.getdoc(described)
    if not text:
        raise ValueError(f"{described!r} has no docstring.")
    head, *parts = SECTION.split(text)
    sections = {
        name: {entry["name"]: one_line(entry["meaning"]) for entry in ENTRY.finditer(body)}
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
    summary, _, rest = head.strip().partition("\n\n")
    return Docstring(summary, rest, sections)


def attributes(described: type, elsewhere: Mapping[str, str] | None = None) -> list[Attribute]:
    """Return the attributes of a class with the docstrings below them, or what is said `elsewhere` of their names.

    Raises:
        ValueError: an attribute has neither.
    """
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(described))).body
    assert isinstance(tree, ast.ClassDef)
    found = []
    for statement, below in _documented(tree.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            meaning = below or (elsewhere or {}).get(statement.target.id)
            if not meaning:
                raise ValueError(f"{described.__name__}.{statement.target.id} has no docstring below it.")
            default = ast.unparse(statement.value) if statement.value else None
            found.append(Attribute(statement.target.id, ast.unparse(statement.annotation), default, meaning))
    return found


def constants(module: ModuleType) -> dict[str, str]:
    """Return the docstrings of a module's constants, by name."""
    tree = ast.parse(inspect.getsource(module))
    return {
        statement.targets[0].id: meaning
        for statement, meaning in _documented(tree.body)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name) and meaning
    }


def one_line(text: str) -> str:
    """Return the text without its line breaks, as a sentence: with a capital letter and a full stop."""
    line = " ".join(text.split())
    # A formula keeps its small letters.
    first = line[:1] if line.startswith("log ") else line[:1].upper()
    return first + line[1:] + ("" if line.endswith((".", "?", ":")) else ".")


def _documented(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str | None]]:
    for statement, following in zip(body, [*body[1:], None], strict=True):
        value = following.value if isinstance(following, ast.Expr) else None
        is_docstring = isinstance(value, ast.Constant) and isinstance(value.value, str)
        yield statement, one_line(value.value) if is_docstring else None  # type: ignore[union-attr]
