"""Fills the placeholders of the pages from the code: `<!-- reference: run-file -->`. A hook of MkDocs, and of the tests."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _reference import (
    catalogue,
    commands,
    comparison,
    components,
    contracts,
    directory,
    hooks,
    layers,
    promises,
    run_file,
    weights,
)

ROOT = Path(__file__).parents[1]
PLACEHOLDER = re.compile(r"^<!-- reference: (?P<what>[\w-]+)(?: (?P<which>\S+))? -->$", flags=re.MULTILINE)
FENCED = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#:]+)(?P<anchor>#[^)]*)?\)")


def included(name: str) -> str:
    """Return a Markdown file of the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


SOURCES: Mapping[str, Callable[..., str]] = {
    "run-file": run_file.tables,
    "contract": contracts.contract,
    "methods": contracts.methods,
    "arguments": contracts.arguments,
    "names": contracts.names,
    "errors": contracts.errors,
    "hooks": hooks.hooks,
    "components": components.components,
    "catalogue": catalogue.catalogue,
    "weight": weights.figure,
    "commands": commands.commands,
    "directory": directory.directory,
    "promises": promises.promises,
    "comparison": comparison.quantities,
    "layers": lambda: layers.picture(ROOT / "pyproject.toml"),
    "file": included,
}


def filled(markdown: str) -> str:
    """Return a page with its placeholders replaced by what the code says.

    Raises:
        ValueError: a placeholder names nothing, or what it names has no docstring.
    """

    def fill(match: re.Match[str]) -> str:
        what, which = match["what"], match["which"]
        if what not in SOURCES:
            raise ValueError(f"{match[0]}: there is no such reference. There are {', '.join(SOURCES)}.")
        return SOURCES[what](which) if which else SOURCES[what]()

    return PLACEHOLDER.sub(fill, markdown)


def within_site(markdown: str, page: str) -> str:
    """Return a page whose links stay in the site: one to another file of the repository becomes its text.

    Raises:
        ValueError: a link to a file that is not there.
    """
    is_included = "reference: file" in (ROOT / "docs" / page).read_text(encoding="utf-8")

    def stay(match: re.Match[str]) -> str:
        folder = ROOT if is_included else (ROOT / "docs" / page).parent
        target = (folder / match["target"]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        if not target.exists():
            raise ValueError(f"docs/{page}: {match[0]} leads to {target}, which is not there.")
        inside = target.is_relative_to(ROOT / "docs")
        if inside and not is_included:
            return match[0]
        return f"[{match['text']}]({_relative(target, page)}{match['anchor'] or ''})" if inside else match["text"]

    prose_and_code = FENCED.split(markdown)
    return "".join(LINK.sub(stay, part) if not part.startswith("```") else part for part in prose_and_code)


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Fill a page, as MkDocs calls it."""
    return within_site(filled(markdown), page.file.src_uri)


def _relative(target: Path, page: str) -> str:
    up = len(PurePosixPath(page).parts) - 1
    return "../" * up + target.relative_to(ROOT / "docs").as_posix()
