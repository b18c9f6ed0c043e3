"""What an author's docstring says: in prose, and of each option. It may be written as Google, NumPy or Sphinx has it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

OPTIONS = frozenset({"args", "arguments", "parameters", "params", "options", "keyword args", "keyword arguments"})
REPORTS = "reports"
OTHERS = frozenset({"returns", "return", "raises", "yields", "attributes", REPORTS})
"""Sections that a reader of a README does not need."""
HEADER = re.compile(r"^(?P<title>[A-Z][A-Za-z ]*):?\s*$")
UNDERLINE = re.compile(r"^-{3,}\s*$")
FIELD = re.compile(r"^:(?P<what>\w+)(?:\s+[^:]*?(?P<name>\w+))?:\s*(?P<text>.*)$")
ENTRY = re.compile(r"^(?P<indent>\s*)\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<text>.*)$")
NUMBER = re.compile(r"^\s*(?P<names>[`\w/{}<>@.-]+(?:,? (?:and )?[`\w/{}<>@.-]+)*)\s*:(?:\s+(?P<text>.*))?$")
"""A line that explains one number, or several that it names together."""
SENTENCE_ENDS = (".", "!", "?", ":")


@dataclass
class Sections:
    """A docstring in its parts."""

    prose: str = ""
    """Everything but the sections on options, results and errors."""
    options: dict[str, str] = field(default_factory=dict)
    """What it says of each option, on one line."""
    reports: dict[str, str] = field(default_factory=dict)
    """What it says of each number that it reports, on one line."""

    @property
    def summary(self) -> str:
        """Its first line; with those that it continues on, if it does not end a sentence."""
        paragraph = self.prose.partition("\n\n")[0]
        first = paragraph.partition("\n")[0].strip()
        return first if first.endswith(SENTENCE_ENDS) else " ".join(paragraph.split())


def sections_of(target: Any) -> Sections:
    """Return what the docstring of a component says; for a class, that of its constructor too."""
    described = target.func if isinstance(target, functools.partial) else inspect.unwrap(target)
    if not inspect.isroutine(described) and not inspect.isclass(described):
        described = type(described)
    # Not getdoc: a class without a docstring would have that of a library's class that it builds on.
    own = sections_in(_text(described))
    if inspect.isclass(described) and "__init__" in vars(described):
        own.options = {**sections_in(_text(described.__init__)).options, **own.options}
    return own


def sections_in(text: str) -> Sections:
    """Cut a docstring, without its indentation, into its parts."""
    prose: list[str] = []
    options: dict[str, list[str]] = {}
    reports: dict[str, str] = {}
    for section, lines in _split(text.splitlines()):
        if section is None:
            prose += lines
        elif section in OPTIONS:
            options |= _entries(lines)
        elif section == REPORTS:
            reports |= _numbers(lines)
    told = {name: " ".join(" ".join(words).split()) for name, words in options.items()}
    return Sections(re.sub(r"\n{3,}", "\n\n", "\n".join(prose)).strip("\n"), told, reports)


def _text(described: Any) -> str:
    text = getattr(described, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def _split(lines: list[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Yield the lines outside sections with None, and those of each section with its title in small letters."""
    index = 0
    while index < len(lines):
        title, length = _header(lines, index)
        if title is None:
            yield None, lines[index : index + 1]
            index += 1
            continue
        start = index = index + length
        while index < len(lines) and not _ends(lines, index, is_numpy=length == 2):
            index += 1
        yield title, lines[start:index]


def _header(lines: list[str], index: int) -> tuple[str | None, int]:
    """Return the title of a section that begins at a line, and how many lines it takes; or None."""
    if field_of := FIELD.match(lines[index]):
        is_option = field_of["what"] in ("param", "parameter", "arg", "argument", "key", "keyword")
        return ("params" if is_option else "returns"), 0
    header = HEADER.match(lines[index])
    title = header["title"].lower() if header else ""
    if title not in OPTIONS | OTHERS:
        return None, 0
    if index + 1 < len(lines) and UNDERLINE.match(lines[index + 1]):
        return title, 2
    return (title, 1) if lines[index].rstrip().endswith(":") else (None, 0)


def _ends(lines: list[str], index: int, *, is_numpy: bool) -> bool:
    if is_numpy:
        return index + 1 < len(lines) and bool(UNDERLINE.match(lines[index + 1]))
    line = lines[index]
    # A field of Sphinx is a section of one entry: the lines after it belong to it as long as they are indented or fields.
    return bool(line.strip()) and not line[0].isspace() and not FIELD.match(line)


def _entries(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    name = None
    for line in lines:
        sphinx, entry = FIELD.match(line), ENTRY.match(line)
        starts = len(line) - len(line.lstrip()) == indent and bool(line.strip())
        if sphinx:
            name = sphinx["name"] if sphinx["what"] not in ("type", "return", "returns", "rtype", "raises") else None
            found |= {name: [sphinx["text"]]} if name else {}
        elif starts and (entry or indent == 0):
            # NumPy has the type after the colon, or nothing, and the text below it.
            name = entry["name"] if entry else line.strip().lstrip("*")
            found[name] = [entry["text"]] if entry and indent else []
        elif name:
            found[name].append(line.strip())
    return found


def _numbers(lines: list[str]) -> dict[str, str]:
    """Return what a section says of each number, by its name; the lines of an entry after the first are indented further."""
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in lines:
        entry = NUMBER.match(line) if len(line) - len(line.lstrip()) == indent else None
        if entry:
            names = [name for name in re.split(r",? and |, ?| ", entry["names"].replace("`", "")) if name]
            found |= {name: [entry["text"] or ""] for name in names}
        elif names:
            for name in names:
                found[name].append(line)
    return {name: " ".join(" ".join(text).split()) for name, text in found.items()}
