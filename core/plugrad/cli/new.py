"""`plugrad new`: a complete plugin package, with its tests and workflows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from plugrad.cli.reporting import reporting

if TYPE_CHECKING:
    from plugrad.scaffold.names import Names

NOTES = {
    "src/{module}/{name}.py": "the {kind}: your idea goes here",
    "tests/test_{name}.py": "its numbers by hand, and what every {kind} promises",
    "pyproject.toml": "the entry point that gives it its name",
    "README.md": "what it computes, and a run file to try it",
    ".github/workflows/test.yml": "tests every push",
    ".github/workflows/publish.yml": "publishes every release on PyPI",
}


def new(
    kind: Annotated[str, typer.Argument(help="loss, advantage, metric, environment or extension.", show_default=False)],
    name: Annotated[
        str, typer.Argument(help="Its name in run files: small letters, digits and underscores.", show_default=False)
    ],
    output_dir: Annotated[Path, typer.Option(help="Where the package's folder goes.")] = Path(),
    author: Annotated[str | None, typer.Option(help="Whose it is, for the package's metadata.", show_default=False)] = None,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Write a plugin package that works, with tests, README and workflows, in a folder such as plugrad-my-idea.

    Put your idea in the place of the one that is there, and change the tests with it.
    """
    with reporting(show_traceback=show_traceback) as console:
        # The help of any command waits for none of it.
        from plugrad.registry.scan import scan
        from plugrad.scaffold.names import Names
        from plugrad.scaffold.package import NewPackage

        package = NewPackage(Names.checked(kind, name, scan()), author)
        folder = package.write(output_dir)
        _print(package.names, folder, list(package.contents), console)


def _print(names: Names, folder: Path, paths: list[str], console: Console) -> None:
    notes = {path.format(**names.words): note.format(**names.words) for path, note in NOTES.items()}
    width = max(map(len, paths))
    console.print(Text(f"Wrote {folder}:", style="bold"), soft_wrap=True)
    for path in paths:
        console.print(f"    {path:<{width}}    {notes.get(path, '')}".rstrip(), soft_wrap=True)
    where = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder}")
    console.print(Text("\nNext, install it and run its tests:", style="bold"))
    console.print(f"    pip install -e {where} pytest\n    pytest {where}", soft_wrap=True)
