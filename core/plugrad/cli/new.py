"""`plugrad new`: write a complete plugin package, with its tests and workflows, around a sample or the user's own file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import TRACEBACK, columns_of, option_values
from plugrad.errors import OptionError, PluginError, with_article

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrad.registry.scan import Kind
    from plugrad.scaffold.package import NewPackage

NOTES = {
    "src/{module}/{name}.py": "the {kind}: your idea goes here",
    "tests/test_{name}.py": "values computed by hand, and the conformance kit",
    "pyproject.toml": "the entry point that gives it its name",
    "README.md": "what it computes, and a run file to try it",
    ".github/workflows/test.yml": "runs the tests on every push",
    ".github/workflows/publish.yml": "publishes each release on PyPI",
}
OWN_NOTES = {"tests/test_{name}.py": "the conformance kit; add values computed by hand"}
FROM = typer.Option(
    "--from",
    metavar="REFERENCE",
    help="Make the package from a component of your own: file.py:function or module:function. Its docstring, its signature "
    "and its imports fill the package.",
)
SETS = typer.Option(
    "--set",
    metavar="OPTION=VALUE",
    help="With --from: an option that has no default, for the tests and the README. Repeatable.",
)
EXAMPLE = typer.Option(
    "--example",
    metavar="JSON",
    help="""With --from: columns of examples that it reads, for the tests, as in --example '{"difficulty": 1}'.""",
)

TURNS = typer.Option("--turns", help="The sample of an environment is a game of several turns, with a method play.")


def new(
    kind: Annotated[
        str | None,
        typer.Argument(help="loss, advantage, metric, environment or extension. With --from: if the file does not show it."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            help="Its name in run files: lower-case letters, digits and underscores. With --from: that of the function or "
            "class, unless you write another."
        ),
    ] = None,
    reference: Annotated[str | None, FROM] = None,
    sets: Annotated[list[str] | None, SETS] = None,
    example: Annotated[str | None, EXAMPLE] = None,
    turns: Annotated[bool, TURNS] = False,
    output_dir: Annotated[Path, typer.Option(help="Where to create the package's folder.")] = Path(),
    author: Annotated[str | None, typer.Option(help="The author, for the package's metadata.", show_default=False)] = None,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Write a complete plugin package: code, tests, README and workflows.

    The package works as it is, in a folder such as plugrad-my-idea. Replace
    the sample idea with yours, and change the tests with it.

    Or start from a file of your own: plugrad new --from ./my_loss.py:my_loss.
    The file is copied, with the modules beside it that it imports.
    """
    with reporting(show_traceback=show_traceback) as console:
        if reference is None:
            package = _sample(kind, name, author, is_own=bool(sets or example), turns=turns)
        else:
            from plugrad.cli.new_from import kind_and_name, package_from

            if turns:
                raise PluginError(f"--turns is for a sample, and --from {reference} is your own. Leave out one of the two.")

            known, called = kind_and_name((kind, name))
            package = package_from(
                reference, kind=known, name=called, options=option_values(sets), example=columns_of(example), author=author
            )
        folder = package.write(output_dir)
        _print_package(package, folder, console)


def _sample(kind: str | None, name: str | None, author: str | None, *, is_own: bool, turns: bool) -> NewPackage:
    # Imported only now, so that --help stays fast.
    from plugrad.registry.scan import scan
    from plugrad.scaffold.names import Names
    from plugrad.scaffold.package import NewPackage

    if is_own:
        raise OptionError("--set and --example are for a component of your own. Add --from ./my_loss.py:my_loss.")
    if kind is None or name is None:
        raise PluginError(
            "plugrad new needs a kind and a name, or a file of yours. Write: plugrad new loss my_idea, or: plugrad new "
            "--from ./my_loss.py:my_loss."
        )
    names = Names.checked(kind, name, scan())
    if turns and names.kind != "environment":
        raise PluginError(f"--turns is for an environment, and {name!r} is {with_article(names.kind)}. Leave it out.")
    return NewPackage(names, author, sample="turns" if turns else None)


def _print_package(package: NewPackage, folder: Path, console: Console) -> None:
    words, paths = package.names.words, list(package.files)
    notes = {path.format(**words): note.format(**words) for path, note in NOTES.items()}
    if package.own is not None:
        notes |= {path.format(**words): note for path, note in OWN_NOTES.items()} | _notes_on_copies(package)
    width = max(map(len, paths))
    origin = "" if package.own is None else f" from {package.own.modules.main.path.name}"
    console.print(Text(f"Wrote {folder}{origin}:", style="bold"), soft_wrap=True)
    for path in paths:
        console.print(f"    {path:<{width}}    {notes.get(path, '')}".rstrip(), soft_wrap=True)
    if package.own is not None:
        _print_remarks(package, console)
    where = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder}")
    console.print(Text("\nNext, install it and run its tests:", style="bold"))
    console.print(f"    pip install -e {where} pytest\n    pytest {where}", soft_wrap=True)


def _on_others(package: NewPackage, others: Sequence[tuple[Kind, str]]) -> str:
    """Say which components the file also has, and the lines of `pyproject.toml` that would give them a name."""
    from plugrad.scaffold.names import Names, respelt

    if not others or package.own is None:
        return ""
    which = ", ".join(f"the {kind} {name!r}" for kind, name in others)
    lines: dict[str, list[str]] = {}
    for kind, name in others:
        target = f"{package.names.module}.{package.names.path}:{name}"
        lines.setdefault(Names(kind, name).group, []).append(f'    {respelt(name) or "a_name"} = "{target}"')
    tables = [f'    [project.entry-points."{group}"]\n' + "\n".join(entries) for group, entries in lines.items()]
    return (
        f"{package.own.modules.main.path.name} also has {which}: copied, but without a name in run files. To give one "
        "a name, add it to pyproject.toml, below the header if that is there already:\n" + "\n".join(tables)
    )


def _notes_on_copies(package: NewPackage) -> dict[str, str]:
    """Return a note on each file that was copied, by its path in the package."""
    assert package.own is not None
    from plugrad.scaffold.own_modules import OwnModule

    modules = package.own.modules
    sources: list[OwnModule | Path] = [
        *modules.modules,
        *modules.data(package.names.path).values(),
        *package.own.files.values(),
    ]
    notes, beside = {}, modules.main.path.parent
    for (path, text), source in zip(package.copied.items(), sources, strict=True):
        where = source.path if isinstance(source, OwnModule) else source
        near = where.relative_to(beside) if where.is_relative_to(beside) else Path(where.name)
        changed = isinstance(source, OwnModule) and source.raw != text
        what = f"the {package.names.kind}: your " if source is modules.main else "your "
        notes[path] = f"{what}{near}{', its imports made relative' if changed else ', as it is'}"
    return notes


def _print_remarks(package: NewPackage, console: Console) -> None:
    """Say what a reader of the package would not see: what else is in the file, and what others would lack."""
    from plugrad.cli.new_from import other_components

    assert package.own is not None
    modules = package.own.modules
    missing = sorted(modules.missing)
    blind = [m.path.name for m in modules.modules if m.looks_beside and not m.files_beside]
    remarks = [
        _on_others(package, other_components(package)),
        f"Not among the dependencies, because not installed here: {', '.join(missing)}." if missing else "",
        f"{', '.join(blind)} looks for files beside itself: copy those into the package." if blind else "",
        "" if package.own.summary else "It has no docstring: say in README.md and pyproject.toml what it computes.",
    ]
    for remark in filter(None, remarks):
        console.print(f"\n{remark}", soft_wrap=True)
