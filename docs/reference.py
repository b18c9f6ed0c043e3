"""Write the reference into the pages, from the code: `python docs/reference.py`. MkDocs uses this file as a hook, too.

A page marks where a part of the reference goes. What stands between the two marks is generated:

    <!-- reference: contract LossInputs -->
    ...
    <!-- end of reference; to renew it: nox -s reference -->
"""

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
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
KNOWN = ROOT / "core" / "plugrad" / "registry" / "known_packages.json"
BEGIN = r"<!-- reference: (?P<what>[\w-]+)(?: (?P<which>\S+))? -->"
END = "<!-- end of reference; to renew it: nox -s reference -->"
BLOCK = re.compile(rf"^(?P<begin>{BEGIN})$(?:(?:\n(?!<!-- reference: ).*)*?\n{re.escape(END)}$)?", flags=re.MULTILINE)
INCLUDE = re.compile(r"^<!-- include: (?P<name>\S+) -->$", flags=re.MULTILINE)
FENCED = re.compile(r"(^```.*?^```$)", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#:]+)(?P<anchor>#[^)]*)?\)")


LANGUAGES = {".py": "python", ".toml": "toml"}
WIDE = (catalogue.BEGIN, '<div class="beside"')
"""What needs the width of the table of contents: the catalogue, and code side by side."""


def source(name: str) -> str:
    """Return a file of `docs` as a block of code."""
    path = DOCS / name
    return f'```{LANGUAGES[path.suffix]} title="{path.name}"\n{path.read_text(encoding="utf-8").strip()}\n```'


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
    "commands": commands.commands,
    "directory": directory.directory,
    "promises": promises.promises,
    "comparison": comparison.quantities,
    "layers": lambda: layers.layer_table(ROOT / "pyproject.toml"),
    "source": source,
}


def filled(markdown: str) -> str:
    """Return a page with every block of the reference generated anew.

    Raises:
        ValueError: a mark names nothing, or the code it names has no docstring.
    """

    def fill(match: re.Match[str]) -> str:
        what, which = match["what"], match["which"]
        if what not in SOURCES:
            raise ValueError(f"{match['begin']}: there is no such reference. There are {', '.join(SOURCES)}.")
        generated = SOURCES[what](which) if which else SOURCES[what]()
        return f"{match['begin']}\n\n{generated.strip()}\n\n{END}"

    return BLOCK.sub(fill, markdown)


def outdated() -> dict[Path, str | None]:
    """Return the files that differ from what the code says now: their new text, or None for one to remove."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    wanted: dict[Path, str | None] = {path: filled(text) for path, text in pages.items()}
    wanted[KNOWN] = directory.known_components()
    pictures = DOCS / "pictures" / "losses"
    wanted |= dict.fromkeys(pictures.glob("*.svg"))
    wanted |= {pictures / f"{name}.svg": picture for name, picture in catalogue.loss_pictures().items()}
    return {path: text for path, text in wanted.items() if text is None or not path.exists() or path.read_text() != text}


def write() -> None:
    """Write the reference into the pages, the pictures of the losses too, and print which files changed."""
    for path, text in outdated().items():
        sys.stdout.write(f"{'removed' if text is None else 'wrote'} {path.relative_to(ROOT)}\n")
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def included(markdown: str) -> str:
    """Return a page, or the file of the repository's root that the site shows in its place."""
    match = INCLUDE.search(markdown)
    return (ROOT / match["name"]).read_text(encoding="utf-8") if match else markdown


def within_site(markdown: str, page: str) -> str:
    """Return a page whose links stay in the site: one to another file of the repository becomes its text.

    Raises:
        ValueError: a link to a file that is not there.
    """
    is_included = bool(INCLUDE.search((DOCS / page).read_text(encoding="utf-8")))

    def stay(match: re.Match[str]) -> str:
        folder = ROOT if is_included else (DOCS / page).parent
        target = (folder / match["target"]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        if not target.exists():
            raise ValueError(f"docs/{page}: {match[0]} leads to {target}, which is not there.")
        inside = target.is_relative_to(DOCS)
        if inside and not is_included:
            return match[0]
        return f"[{match['text']}]({_relative(target, page)}{match['anchor'] or ''})" if inside else match["text"]

    prose_and_code = FENCED.split(markdown)
    return "".join(LINK.sub(stay, part) if not part.startswith("```") else part for part in prose_and_code)


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Include files and keep links within the site, as MkDocs calls it. The reference stands in the pages already."""
    if any(wide in markdown for wide in WIDE):
        page.meta["hide"] = ["toc"]
    return within_site(included(markdown), page.file.src_uri)


def _relative(target: Path, page: str) -> str:
    up = len(PurePosixPath(page).parts) - 1
    return "../" * up + target.relative_to(DOCS).as_posix()


if __name__ == "__main__":
    write()
