"""`plugrad new`: write a complete plugin package, with its tests and workflows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import TRACEBACK

if TYPE_CHECKING:
    from plugrad.scaffold.names import Names

NOTES = {
    "src/{module}/{name}.py": "the {kind}: your idea goes here",
    "tests/test_{name}.py": "values computed by hand, and the conformance kit",
    "pyproject.toml": "the entry point that gives it its name",
    "README.md": "what it computes, and a run file to try it",
    ".github/workflows/test.yml": "runs the tests on every push",
    ".github/workflows/publish.yml": "publishes each release on PyPI",
}


def new(
    kind: Annotated[str, typer.Argument(help="loss, advantage, metric, environment or extension.", show_default=False)],
    name: Annotated[
        str, typer.Argument(help="Its name in run files: lower-case letters, digits and underscores.", show_default=False)
    ],
    output_dir: Annotated[Path, typer.Option(help="Where to create the package's folder.")] = Path(),
    author: Annotated[str | None, typer.Option(help="The author, for the package's metadata.", show_default=False)] = None,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Write a complete plugin package: code, tests, README and workflows.

    The package works as it is, in a folder such as plugrad-my-idea. Replace
    the sample idea with yours, and change the tests with it.
    """
    with reporting(show_traceback=show_traceback) as console:
        # Imported only now, so that --help stays fast.
        from plugrad.registry.scan import scan
        from plugrad.scaffold.names import Names
        from plugrad.scaffold.package import NewPackage

        package = NewPackage(Names.checked(kind, name, scan()), author)
        folder = package.write(output_dir)
        _print_package(package.names, folder, list(package.contents), console)


def _print_package(names: Names, folder: Path, paths: list[str], console: Console) -> None:
    notes = {path.format(**names.words): note.format(**names.words) for path, note in NOTES.items()}
    width = max(map(len, paths))
    console.print(Text(f"Wrote {folder}:", style="bold"), soft_wrap=True)
    for path in paths:
        console.print(f"    {path:<{width}}    {notes.get(path, '')}".rstrip(), soft_wrap=True)
    where = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder}")
    console.print(Text("\nNext, install it and run its tests:", style="bold"))
    console.print(f"    pip install -e {where} pytest\n    pytest {where}", soft_wrap=True)
