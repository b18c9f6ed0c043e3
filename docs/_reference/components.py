"""Core's components: what each computes, its options, its facts and what it reports."""

from __future__ import annotations

from typing import Any, cast

from _reference.docstrings import Docstring, docstring
from _reference.markdown import as_toml, in_words, table
from plugrad.contracts.markers import LossFacts, facts_of
from plugrad.registry.options import REQUIRED, Option, options_of
from plugrad.registry.resolve import Source, load, resolve
from plugrad.registry.scan import CORE, Catalogue, Entry, Kind, scan
from plugrad.registry.signature import FACTS

FORMULA_FIRST = ("loss", "advantage")
"""The docstrings of these kinds begin with a formula."""


def components(kind: str) -> str:
    """Return a description of every component of one kind that comes with core."""
    catalogue = scan()
    return "\n\n".join(_described(load_entry(entry, catalogue), entry) for entry in core_entries(kind, catalogue))


def core_entries(kind: str, catalogue: Catalogue) -> list[Entry]:
    """Return core's entries of one kind."""
    return [entry for entry in catalogue.of_kind(cast(Kind, kind)) if entry.package == CORE]


def load_entry(entry: Entry, catalogue: Catalogue) -> tuple[Source, Any]:
    """Return an entry's source, and the function or class itself."""
    source = resolve(entry.kind, f"{entry.package}/{entry.name}", catalogue)
    return source, load(source)


def _described(loaded: tuple[Source, Any], entry: Entry) -> str:
    source, target = loaded
    text = docstring(target)
    summary = f"```text {{ .formula }}\n{text.summary}\n```" if entry.kind in FORMULA_FIRST else text.summary
    parts = [f"### `{entry.name}`", summary, text.rest, _options(options_of(source, target), text, entry)]
    return "\n\n".join(part for part in [*parts, _facts(entry.kind, target), _reports(text, entry.name)] if part)


def _options(options: list[Option], text: Docstring, entry: Entry) -> str:
    meanings = text.sections.get("Args", {})
    unexplained = [option.name for option in options if option.name not in meanings]
    if unexplained:
        raise ValueError(f"the docstring of {entry.target} has no meaning of {', '.join(unexplained)} under Args:.")
    rows = [(f"`{o.name}`", in_words(o.annotation), _default(o), meanings[o.name]) for o in options]
    return table(("option", "type", "default", "meaning"), rows) if rows else "No options."


def _default(option: Option) -> str:
    return "required" if option.default is REQUIRED else as_toml(option.default)


def _facts(kind: str, target: Any) -> str:
    if kind != "loss":
        return ""
    facts = facts_of(target, FACTS[kind])
    assert isinstance(facts, LossFacts)
    needs = "depends on its options" if callable(facts.needs) else ", ".join(f"`{n}`" for n in sorted(map(str, facts.needs)))
    return f"Needs: {needs or 'nothing more'}. Reduction: `{facts.reduction}`."


def _reports(text: Docstring, name: str) -> str:
    reports = text.sections.get("Reports", {})
    return (
        table(("reports", "meaning"), [(f"`{name}/{key}`", meaning) for key, meaning in reports.items()]) if reports else ""
    )
