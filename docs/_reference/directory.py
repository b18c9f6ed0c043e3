"""The directory of plugin packages: `docs/plugins.toml`, read strictly, and the page made from it."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from _reference.markdown import table
from plugrad.errors import did_you_mean
from plugrad.registry.scan import CORE, GROUPS, KINDS, Kind

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "docs" / "plugins.toml"
Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n|]*$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Links(_Table):
    """Where to read on: an https address, or a folder of this repository."""

    source: Line
    documentation: Line | None = None
    paper: Line | None = None

    @field_validator("*")
    @classmethod
    def _is_an_address(cls, link: str | None) -> str | None:
        if link and not (link.startswith("https://") or (ROOT / link).is_dir()):
            raise ValueError("is neither an https:// address nor a folder of this repository")
        return link


class Tried(_Table):
    """How to check a component whose defaults do not work."""

    options: dict[str, Any] = Field(default_factory=dict)
    expected_failures: dict[str, Line] = Field(default_factory=dict)
    """The reason, by the name of the check."""


INNER: dict[str, type[BaseModel]] = {"links": Links, "check": Tried}
"""The tables in an entry, by their key."""


class Package(_Table):
    """One entry of the directory."""

    name: str
    kinds: list[Kind] = Field(min_length=1)
    """Of the components that it offers."""
    summary: Line
    """The package's own description."""
    install: Line
    """What pip installs: a requirement such as `plugrad-mine>=1`, or a folder of this repository."""
    beside: list[Line] = Field(default_factory=list)
    """What pip has to install with it, as long as no index has that: folders of this repository."""
    links: Links
    check: dict[str, Tried] = Field(default_factory=dict)
    """By `kind/name`."""

    @property
    def folder(self) -> Path | None:
        """Its folder, where it is a package of this repository."""
        return ROOT / self.install.partition("[")[0] if self.install.startswith("./") else None

    @property
    def command(self) -> str:
        """The command that installs it."""
        return shlex.join(["pip", "install", *self.beside, self.install])

    @field_validator("name")
    @classmethod
    def _is_a_plugins_name(cls, name: str) -> str:
        if not name.startswith(f"{CORE}-") or name != canonicalize_name(name):
            raise ValueError(f"must be {CORE}- and small letters, digits and single hyphens, such as {CORE}-my-idea")
        return name

    @field_validator("kinds")
    @classmethod
    def _are_in_order(cls, kinds: list[Kind]) -> list[Kind]:
        ordered = [kind for kind in KINDS if kind in kinds]
        if kinds != ordered:
            raise ValueError(f"are each named once, in this order: {ordered}")
        return kinds

    @model_validator(mode="after")
    def _installs_itself(self) -> Package:
        if self.folder and not (self.folder / "pyproject.toml").is_file():
            raise ValueError(f"install: {self.install!r} is no folder of this repository with a pyproject.toml")
        try:
            wanted = self.name if self.folder else canonicalize_name(Requirement(self.install).name)
        except InvalidRequirement as error:
            raise ValueError(f"install: {self.install!r} is no requirement that pip understands ({error})") from error
        if wanted != self.name:
            raise ValueError(f"install: {self.install!r} installs {wanted}, and the entry is about {self.name}")
        return self


def read(path: Path = DIRECTORY) -> list[Package]:
    """Return the entries of a directory.

    Raises:
        ValueError: naming each thing in it that cannot be, and what to write.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name} is no TOML: {error}.") from error
    listed = tables.get("package")
    if set(tables) != {"package"} or not isinstance(listed, list):
        raise ValueError(f"{path.name} holds [[package]] tables and nothing else; it has {', '.join(tables) or 'nothing'}.")
    packages, complaints = [], []
    for number, entry in enumerate(listed, start=1):
        try:
            packages.append(Package.model_validate(entry))
        except ValidationError as error:
            name = entry.get("name", f"number {number}")
            complaints += [f"{name}: {_complaint(detail)}" for detail in error.errors()]
    complaints += _out_of_order([str(entry.get("name")) for entry in listed])
    if complaints:
        raise ValueError("\n    ".join([f"{path.name} cannot be used:", *complaints]))
    return packages


def directory() -> str:
    """Return a row for each package, and what is declared to fail."""
    packages = read()
    rows = [(f"`{p.name}`", ", ".join(p.kinds), p.summary, _links(p), f"`{p.command}`") for p in packages]
    parts = [table(("package", "kinds", "what it is", "links", "install"), rows), _declared(packages)]
    return "\n\n".join(part for part in parts if part)


def known_components() -> str:
    """Return the components of this repository's packages as JSON: by kind and name, the package and how to install it."""
    known: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in KINDS}
    for package in read():
        if package.folder is None:
            continue
        project = tomllib.loads((package.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for group, points in project["entry-points"].items():
            for name in points:
                install = f"{package.command}, from a clone of plugrad"
                known[GROUPS[group]][name] = {"package": package.name, "install": install}
    return json.dumps(known, indent=1, sort_keys=True) + "\n"


def _links(package: Package) -> str:
    links = {word: link for word, link in package.links.model_dump().items() if link}
    return ", ".join(
        f"[{word}]({link})" if link.startswith("https://") else f"[{link}](../{link})" for word, link in links.items()
    )


def _declared(packages: Sequence[Package]) -> str:
    lines = [
        f"- `{package.name}/{component.partition('/')[2]}` does not pass `{check}`: {reason}"
        for package in packages
        for component, tried in package.check.items()
        for check, reason in tried.expected_failures.items()
    ]
    return "\n".join(["Checks that a package is known not to pass, and why:", "", *lines]) if lines else ""


def _complaint(detail: Any) -> str:
    loc = [str(part) for part in detail["loc"]]
    where = ".".join(loc)
    keys = list((INNER[loc[0]] if len(loc) > 1 and loc[0] in INNER else Package).model_fields)
    if detail["type"] == "extra_forbidden":
        return f"there is no key {where!r}.{did_you_mean(loc[-1], keys)} Keys: {', '.join(keys)}."
    if detail["type"] == "missing":
        return f"{where!r} is missing."
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where} {message}. It is {detail['input']!r}." if where else f"{message}."


def _out_of_order(names: Sequence[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        return [f"{' and '.join(twice)} is listed twice."]
    late = next((b for a, b in pairwise(names) if b < a), None)
    return [f"{late} is out of order: entries are sorted by name."] if late else []
