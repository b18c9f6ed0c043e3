"""The hooks: when each is called, what core does there, and what an extension can do."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from _reference.docstrings import one_line
from plugrad import hookspecs

PARTS = re.compile(r"^(When|Core|Extension): (.*(?:\n {4}.*)*)", flags=re.MULTILINE)


def hooks() -> str:
    """Return a heading, the signature and the three answers for every hook."""
    return "\n\n".join(_described(name, hook) for name, hook in all_hooks())


def all_hooks() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every hook with its name, in the order of the file."""
    yield from ((name, getattr(hookspecs, name)) for name in hookspecs.hook_names())


def _described(name: str, hook: Callable[..., Any]) -> str:
    text = inspect.getdoc(hook) or ""
    parts = dict(PARTS.findall(text))
    if set(parts) != {"When", "Core", "Extension"}:
        raise ValueError(f"the docstring of the hook {name} has not the lines When:, Core: and Extension:.")
    answers = [f"- **{part}**: {one_line(parts[part])}" for part in ("When", "Core")]
    answers.append(f"- **An extension can**: {one_line(parts['Extension'])}")
    marker = "@plugrad.hookimpl(wrapper=True)" if name in hookspecs.COMPUTING_HOOKS else "@plugrad.hookimpl"
    signature = str(inspect.signature(hook)).replace("'", "")
    summary = one_line(text.split("\n\n")[0])
    return "\n".join(
        [
            f"### `{name}`",
            "",
            summary,
            "",
            f"```text\n{name}{signature}\n```",
            "",
            *answers,
            f"- **Written with**: `{marker}`",
        ]
    )
