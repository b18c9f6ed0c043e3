"""Install each package of the directory and run the conformance kit on it: `python -m nox -s directory`."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import tomli_w
from _reference.directory import DIRECTORY, ROOT, Package, Tried, read
from rich.console import Console
from rich.table import Table

from plugrad.registry.scan import GROUPS, KINDS, Kind

TIMEOUT_S = 1800
"""Limit for one component. A loss of a large package takes a minute on a slow machine."""

# Without a terminal, the column SEEN is not cut to the width of one.
console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True)
class Row:
    """The result for one component, or for a package as a whole."""

    package: str
    component: str
    is_good: bool
    seen: str


def check(package: Package) -> Iterator[Row]:
    """Install a package, compare it with its entry, check each of its components, and remove the package.

    Run it in a separate environment: a package of that name that was installed before is gone afterwards.
    """
    installed = _call("pip", "install", "--constraint", str(ROOT / "constraints.txt"), *package.beside, package.install)
    if installed.returncode:
        yield Row(package.name, "", False, f"{package.command} failed: {_last_line(installed.stderr)}")
        return
    importlib.invalidate_caches()
    found = distribution(package.name)
    name = f"{package.name} {found.version}"
    try:
        yield from (Row(name, "", False, complaint) for complaint in _disagreements(package, found))
        for kind, component in _offered(found):
            yield _checked(package, name, kind, component)
    finally:
        _call("pip", "uninstall", "--yes", package.name)


def _offered(found: Distribution) -> list[tuple[Kind, str]]:
    offered = [(GROUPS[point.group], point.name) for point in found.entry_points if point.group in GROUPS]
    return sorted(offered, key=lambda pair: (KINDS.index(pair[0]), pair[1]))


def _disagreements(package: Package, found: Distribution) -> Iterator[str]:
    """Yield the differences between the entry and the package."""
    offered = _offered(found)
    kinds = [kind for kind in KINDS if kind in dict(offered)]
    if kinds != package.kinds:
        yield f"kinds: the entry says {package.kinds}, and its entry points are of {kinds}"
    summary = found.metadata["Summary"]
    if summary != package.summary:
        yield f"summary: the entry says {package.summary!r}, and the package {summary!r}"
    for key in sorted(set(package.check) - {f"{kind}/{name}" for kind, name in offered}):
        yield f"check: the entry names {key!r}, which the package does not offer"


def _checked(package: Package, name: str, kind: str, component: str) -> Row:
    tried = package.check.get(f"{kind}/{component}", Tried())
    sets = [f"{option}={_as_toml(value)}" for option, value in tried.options.items()]
    failures = [f"{check}={reason}" for check, reason in tried.expected_failures.items()]
    arguments = [*_each("--set", sets), *_each("--expected-failure", failures)]
    console.print(f"checking {package.name}/{component}", style="dim")
    done = _call("plugrad", "check", f"{package.name}/{component}", "--kind", kind, *arguments)
    if done.returncode:
        console.print(done.stdout + done.stderr, end="", soft_wrap=True)
    return Row(name, f"{kind}/{component}", done.returncode == 0, _last_line(done.stdout or done.stderr))


def _call(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _as_toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_as_toml(item)}' for key, item in value.items())} }}"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "nothing was printed"


def _show(rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("PACKAGE", "COMPONENT", "RESULT", "SEEN"):
        table.add_column(column, no_wrap=column != "SEEN", overflow="fold")
    for row in rows:
        table.add_row(row.package, row.component, "ok" if row.is_good else "failed", row.seen)
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """Check the named packages, or all. The path of another directory may come first."""
    path = Path(arguments[0]) if arguments and arguments[0].endswith(".toml") else DIRECTORY
    asked = [name for name in arguments if not name.endswith(".toml")]
    packages = read(path)
    unknown = sorted(set(asked) - {package.name for package in packages})
    if unknown:
        console.print(f"{path.name} has no {' and no '.join(unknown)}. It has {', '.join(p.name for p in packages)}.")
        return 2
    rows = [row for package in packages if package.name in asked or not asked for row in check(package)]
    _show(rows)
    failed = [row for row in rows if not row.is_good]
    console.print(f"\n{len(rows) - len(failed)} ok, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
