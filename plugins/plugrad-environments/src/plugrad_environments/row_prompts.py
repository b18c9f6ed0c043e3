"""From the columns of a row to a prompt and a reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from plugrad import DataError, OptionError
from plugrad_environments.wording import among, cut, listed

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PromptForm:
    r"""How a prompt is made: a column, or a template such as `"Q: {question}\nA:"`; with `system`, as chat messages."""

    text: str
    system: str | None = None

    @property
    def is_template(self) -> bool:
        """Whether there is something to fill in."""
        return "{" in self.text or "}" in self.text

    def columns(self) -> list[str]:
        """Return the columns that a prompt is made of.

        Raises:
            OptionError: the template has an unpaired brace, or something other than the name of a column in braces.
        """
        if not self.is_template:
            return [self.text]
        try:
            parts = list(Formatter().parse(self.text))
        except ValueError as error:
            raise OptionError(
                f"prompt = {cut(self.text)} is no template: {error}. A brace of the text is written twice."
            ) from error
        for _, field, form, conversion in parts:
            if field is not None and (not field or form or conversion):
                raise OptionError(
                    f"prompt = {cut(self.text)}: in braces stands the name of a column and nothing else. A brace of the "
                    "text is written twice: {{ or }}."
                )
        return list(dict.fromkeys(field for _, field, _, _ in parts if field))

    def prompt(self, row: Row, where: str) -> str | list[Any]:
        """Return the prompt of a row: text, or chat messages.

        Raises:
            DataError: the row has none, or it is neither text nor messages of text.
        """
        found = self._filled(row) if self.is_template else row[self.text]
        if isinstance(found, str):
            return found if self.system is None else [_message("system", self.system), _message("user", found)]
        if isinstance(found, Sequence) and found and all(map(_is_message, found)):
            begun = [] if self.system is None else [_message("system", self.system)]
            return [*begun, *found]
        raise DataError(
            f"{where}: the prompt is {cut(found)}. A prompt is a string, or a list of chat messages with `role` and a "
            '`content` of text. Numbers and other columns are written in a template: prompt = "{column}".'
        )

    def _filled(self, row: Row) -> str:
        return "".join(
            literal + ("" if field is None else str(row[field])) for literal, field, _, _ in Formatter().parse(self.text)
        )


@dataclass(frozen=True)
class ReferenceForm:
    """Where the known answer is: a column, and the regular expression whose first group, or whole match, is the answer."""

    column: str
    pattern: str | None = None

    def reference(self, row: Row, where: str) -> str:
        """Return the answer as text.

        Raises:
            DataError: the row has none, or the pattern does not occur in it.
        """
        value = row[self.column]
        if value is None:
            raise DataError(
                f"{where}: the column {self.column!r} of the reference is empty. Remove such rows, or name another column."
            )
        text = value if isinstance(value, str) else str(value)
        if self.pattern is None:
            return text
        found = re.search(self.pattern, text)
        if found is None:
            raise DataError(f"{where}: reference_pattern = {self.pattern!r} does not occur in {cut(text)}.")
        return (found[1] or "") if found.re.groups else found[0]


def check_pattern(option: str, pattern: str) -> None:
    """Check a regular expression of an option.

    Raises:
        OptionError: it is none.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise OptionError(f"{option} = {cut(pattern)} is no regular expression: {error}.") from error


def check_columns(option: str, asked: Sequence[str], known: Sequence[str], dataset: str) -> None:
    """Check the names of columns.

    Raises:
        DataError: the dataset lacks one.
    """
    for name in asked:
        if name not in known:
            raise DataError(
                f"{option} names the column {cut(name)}, which {dataset} does not have. It has {listed(known)}."
                f"{among(name, known)} Set {option} under [environment.kwargs]."
            )


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)
