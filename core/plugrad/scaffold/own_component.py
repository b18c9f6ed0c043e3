"""A component that the user has written already, as its new package shows it: README, run file and tests."""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from plugrad.contracts.needs import OF_CRITIC, OF_TEACHER
from plugrad.errors import OptionError
from plugrad.registry.bind import Component
from plugrad.registry.options import REQUIRED, Option, options_of, type_name
from plugrad.scaffold.docstring_sections import Sections, sections_in, sections_of
from plugrad.scaffold.own_modules import OwnModules
from plugrad.shown import escaped, shown

LISTED = ("metric", "extension")
"""The kinds of which a run file has a list."""
ROLLOUTS = 8
LONGEST_SUMMARY = 512
"""PyPI takes no longer one."""
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
NOT_MARKDOWN = re.compile(r"(?<!\w)_|_(?!\w)|(?<![\s*])\*|\*(?![\s*])|<|^#")


@dataclass(frozen=True)
class OwnComponent:
    """A component, the modules behind it, and what its trial needs."""

    name: str
    """As in run files."""
    component: Component
    modules: OwnModules
    example: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the trial's examples."""

    @cached_property
    def sections(self) -> Sections:
        """What its docstring says, or else that of its module."""
        own = sections_of(self.component.target)
        if not own.prose:
            own.prose = sections_in(_module_docstring(self.modules)).prose
        return own

    @property
    def summary(self) -> str:
        """One line about it; empty if no docstring has any."""
        return escaped(" ".join(self.sections.summary.split()))[:LONGEST_SUMMARY]

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files that its options name, by the path in the package where the tests find them."""
        found = (_file_and_rest(self.component.options.get(name)) for name in self.component.given)
        return {f"tests/{file.name}": file for file, _ in filter(None, found)}

    @property
    def words(self) -> dict[str, str]:
        """What the templates say of it."""
        return {
            "said": self._said(),
            "environment": self._environment(),
            "rollouts": str(max(ROLLOUTS, getattr(self.component.facts, "min_rollouts_per_example", 1))),
            "in_run_file": self._in_run_file(),
            "check_arguments": self._check_arguments(),
            "imports": self._imports(),
            "constants": self._constants(),
            "load_options": ", **OPTIONS" if self.component.given else "",
            "trial": "".join(
                [", options=OPTIONS"] * bool(self.component.given) + [", example=EXAMPLE"] * bool(self.example)
            ),
        }

    def _said(self) -> str:
        prose = "\n".join(map(_markdown, self.sections.prose.splitlines())).strip()
        options = options_of(self.component.source, self.component.target)
        rows = [_row(option, self.sections.options.get(option.name, "")) for option in options]
        table = "\n".join(["| option | type | default | meaning |", "| --- | --- | --- | --- |", *rows]) if rows else ""
        needs = ", ".join(f"`{need}`" for need in sorted(self.component.needs))
        columns = ", ".join(f"`{column}`" for column in self.example)
        paragraphs = [
            prose or "TODO (the formula, and the paper that it comes from)",
            table,
            f"It needs {needs}." if needs else "",
            f"It reads these columns of the examples: {columns}." if columns else "",
        ]
        return "\n\n".join(filter(None, paragraphs))

    def _environment(self) -> str:
        if self.component.kind == "environment":
            return self._table()
        if self.example:
            columns = ", ".join(self.example)
            return (
                f'[environment]\nname = "jsonl"    # each line with prompt, reference, {columns}\n'
                'kwargs = { path = "train.jsonl", reward = "./reward.py:reward" }'
            )
        return '[environment]\nname = "arithmetic"\nkwargs = { digits = 1 }'

    def _in_run_file(self) -> str:
        tables = [] if self.component.kind == "environment" else [self._table()]
        if self.component.needs & set(OF_TEACHER):
            tables.append('[model.teacher]\nname = "./teacher"    # the folder of a model with the same tokenizer')
        if self.component.needs & set(OF_CRITIC):
            tables.append("[critic]")
        return "".join(f"\n\n{table}" for table in tables)

    def _table(self) -> str:
        kind = self.component.kind
        header = f"[[{kind}]]" if kind in LISTED else f"[{kind}]"
        kwargs = f"\nkwargs = {toml_literal(self._given)}" if self._given else ""
        return f'{header}\nname = "{self.name}"{kwargs}'

    @property
    def _given(self) -> dict[str, Any]:
        """The options that were set, with the files where they lie in the package."""
        options, given = self.component.options, self.component.given
        found = {name: _file_and_rest(options.get(name)) for name in given}
        return {name: f"tests/{at[0].name}{at[1]}" if (at := found[name]) else value for name, value in given.items()}

    def _check_arguments(self) -> str:
        sets = [f"--set {shlex.quote(f'{name}={_as_typed(value)}')}" for name, value in self._given.items()]
        example = [f"--example {shlex.quote(json.dumps(self.example, ensure_ascii=False))}"] * bool(self.example)
        return "".join(f" {argument}" for argument in [*sets, *example])

    def _imports(self) -> str:
        standard = ["from importlib.metadata import entry_points"]
        standard += ["from pathlib import Path"] * bool(self.files)
        standard += ["from typing import Any"] * bool(self.example or self.component.given)
        return "\n".join(standard)

    def _constants(self) -> str:
        lines = ["HERE = Path(__file__).parent"] * bool(self.files)
        if self.component.given:
            values = {name: self._literal(name, value) for name, value in self.component.given.items()}
            lines.append(_dict("OPTIONS", values))
        if self.example:
            lines.append(_dict("EXAMPLE", {name: literal(value) for name, value in self.example.items()}))
        return "".join(f"\n{line}" for line in lines)

    def _literal(self, name: str, value: Any) -> str:
        found = _file_and_rest(self.component.options.get(name))
        if found:
            file, rest = found
            return f"str(HERE / {literal(file.name)})" + (f" + {literal(rest)}" if rest else "")
        return literal(value)


def literal(value: Any) -> str:
    """Return a value as Python reads it.

    Raises:
        OptionError: it is no plain value.
    """
    if isinstance(value, bool | int | None):
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    raise OptionError(
        f"--set with the value {shown(value)}: the tests of a package cannot repeat a {type(value).__name__}. Give the "
        "option a default instead, or one of the types bool, int, float, str, list or dict."
    )


def toml_literal(value: Any) -> str:
    """Return a value of TOML on one line."""
    if isinstance(value, dict):
        items = (f"{key if BARE_KEY.fullmatch(key) else literal(key)} = {toml_literal(item)}" for key, item in value.items())
        return f"{{ {', '.join(items)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_literal, value))}]"
    return str(value).lower() if isinstance(value, bool | float) else literal(value)


def _dict(name: str, values: Mapping[str, str]) -> str:
    items = "".join(f"    {literal(key)}: {value},\n" for key, value in values.items())
    return f"{name}: dict[str, Any] = {{\n{items}}}"


def _file_and_rest(value: Any) -> tuple[Path, str] | None:
    """Return the file that an option names, and what follows it: `:function` in a reference. None if it names none."""
    text = str(value) if isinstance(value, Path | str) else ""
    name, colon, function = text.rpartition(":") if ".py:" in text else (text, "", "")
    path = Path(name)
    is_file = path.is_absolute() and "\0" not in name and path.is_file()
    return (path, colon + function) if is_file else None


def _as_typed(value: Any) -> str:
    return value if isinstance(value, str) else toml_literal(value)


def _row(option: Option, meaning: str) -> str:
    default = "required" if option.default is REQUIRED else _code(ADDRESS.sub("", shown(option.default)))
    annotation = type_name(option.annotation) if option.annotation is not REQUIRED else ""
    cells = (f"`{option.name}`", _code(annotation) if annotation else "", default, _markdown(meaning).replace("|", "\\|"))
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _code(text: str) -> str:
    # A bar ends a cell, in backticks too.
    return f"`{text}`".replace("|", "\\|")


def _markdown(line: str) -> str:
    """Return a line of a docstring with what only happens to be Markdown escaped: outside code, `*`, `_`, `<` and `#`."""
    if line.startswith("    "):
        return line.rstrip()
    parts = re.split(r"(`+[^`]*`+)", line.rstrip())
    return "".join(part if part.startswith("`") else NOT_MARKDOWN.sub(lambda match: f"\\{match[0]}", part) for part in parts)


def _module_docstring(modules: OwnModules) -> str:
    return ast.get_docstring(modules.main.tree) or ""
