"""`plugrad new --from`: read the user's own file, for a package that holds it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from plugrad.errors import PluginError, did_you_mean, with_article
from plugrad.registry.scan import KINDS, Kind, known_kind, scan
from plugrad.shown import shown

if TYPE_CHECKING:
    from plugrad.registry.resolve import Source
    from plugrad.scaffold.names import Names
    from plugrad.scaffold.own_modules import OwnModule, OwnModules
    from plugrad.scaffold.package import NewPackage


def kind_and_name(words: Sequence[str | None]) -> tuple[Kind | None, str | None]:
    """Return the kind and the name that a user wrote before --from: both, one of them, or none.

    Raises:
        PluginError: the first of two words is no kind, or the only one looks like a misspelt one.
    """
    first, second = words
    if first is None:
        return None, None
    if first in KINDS or second is not None or did_you_mean(first, KINDS):
        return known_kind(first), second
    return None, first


def package_from(
    reference: str,
    *,
    kind: Kind | None,
    name: str | None,
    options: Mapping[str, Any],
    example: Mapping[str, Any],
    author: str | None,
) -> NewPackage:
    """Return the package around a component of the user's. Its file is imported, and nothing of it is called.

    Raises:
        PlugradError: it is not found, its kind or name cannot be told, or a module that it imports cannot be copied.
    """
    from plugrad.registry.bind import bind
    from plugrad.registry.options import refuse_unnamed_options
    from plugrad.registry.resolve import load, resolve, search_modules_in
    from plugrad.scaffold.own_component import OwnComponent
    from plugrad.scaffold.package import NewPackage

    folders = [Path.cwd()]
    _check_reference(reference, folders)
    search_modules_in(folders)
    before = set(sys.modules)
    with _no_bytecode():
        known = kind or _kind_of(reference)
        source = resolve(known, reference, scan(), folders)
        component = bind(source, load(source), options, folders)
        refuse_unnamed_options(source, component.target)
    names = _names(source, known, name, reference)
    modules = _modules_of(source)
    modules.take_in(sorted(set(sys.modules) - before))
    placed = _placed(names, source, modules)
    return NewPackage(placed, author, OwnComponent(placed.name, component, modules, example))


def other_components(package: NewPackage) -> list[tuple[Kind, str]]:
    """Return kind and name of the components that the file defines besides the one that the package is for."""
    from plugrad.testing.components import kind_of

    assert package.own is not None
    target = package.own.component.target
    found: list[tuple[Kind, str]] = []
    seen = [target]
    for name, value in list(vars(_module_of(package.own.component.source)).items()):
        is_defined_there = getattr(value, "__module__", None) == getattr(target, "__module__", "")
        if any(value is other for other in seen) or name.startswith("_") or not callable(value) or not is_defined_there:
            continue
        seen.append(value)
        try:
            found.append((kind_of(value), name))
        except Exception:
            # Everything else in the file: helpers, and objects that refuse to be looked at.
            continue
    return found


def _check_reference(reference: str, folders: Sequence[Path]) -> None:
    if ":" in reference:
        return
    from plugrad.paths import find_file

    file = find_file(reference, folders) if reference.endswith(".py") else None
    if file is None or not file.is_file():
        raise PluginError(
            f"--from {shown(reference)} names no component in a file. Write the file and the name in it, as in "
            "--from ./my_loss.py:my_loss."
        )
    defined = _defined_in(file)
    which = f" It defines {', '.join(defined)}." if defined else ""
    raise PluginError(
        f"--from {shown(reference)} does not say which component of the file.{which} Write "
        f"--from {reference}:{defined[0] if len(defined) == 1 else 'NAME'}"
    )


def _defined_in(file: Path) -> list[str]:
    import ast

    from plugrad.scaffold.own_modules import OwnModule

    body = OwnModule("", file).tree.body
    return [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]


def _kind_of(reference: str) -> Kind:
    from plugrad.registry.resolve import resolve_callable
    from plugrad.testing.components import UnclearKind, kind_of

    try:
        return kind_of(resolve_callable(reference))
    except UnclearKind as error:
        raise PluginError(
            f"the kind of {shown(reference.rpartition(':')[2])} is not clear: it has no marker such as @loss(), and "
            f"its first parameter is not annotated with the inputs of a kind. Write the kind before it: plugrad new loss "
            f"--from {reference}. Kinds: {', '.join(KINDS)}."
        ) from error


def _names(source: Source, kind: Kind, name: str | None, reference: str) -> Names:
    from plugrad.scaffold.names import Names, respelt

    asked = f"plugrad new {kind} NAME --from {reference}"
    chosen = respelt(source.name) if name is None else name
    if not chosen:
        raise PluginError(
            f"{source.name!r} has no letter from a to z, so the name of {with_article(kind)} cannot be made from it. Choose "
            f"one: {asked}"
        )
    try:
        return Names.checked(kind, chosen, scan())
    except PluginError as error:
        raise PluginError(f"{error} Write: {asked}") from error


def _placed(names: Names, source: Source, modules: OwnModules) -> Names:
    """Return the names with the place of the component's module, and check that none of the others is there.

    Raises:
        PluginError: one of them is.
    """
    from dataclasses import replace

    attribute = source.target.rpartition(":")[2]
    path = modules.main.name if modules.keeps_structure else names.name
    clash = next((module for name, module in modules.others.items() if name.partition(".")[0] == path), None)
    if clash and not modules.keeps_structure:
        raise PluginError(
            f"{clash.path} is imported by {modules.main.path.name}, and the {names.kind} {names.name!r} itself would be "
            f"{path}.py in the package. Choose another name: plugrad new {names.kind} NAME --from {source.reference}"
        )
    return replace(names, own_target=f"{path}:{attribute}")


def _modules_of(source: Source) -> OwnModules:
    from plugrad.scaffold.own_modules import OwnModule, OwnModules

    location = source.target.rpartition(":")[0]
    if location.endswith(".py"):
        main = OwnModule("", Path(location))
        root = main.path.parent
    else:
        main = _own_module(_module_of(source))
        root = main.path.parents[main.name.count(".") + main.is_package]
    return OwnModules.of(main, tuple(dict.fromkeys(map(str, (root, Path.cwd())))))


def _own_module(module: ModuleType) -> OwnModule:
    from plugrad.scaffold.own_modules import OwnModule

    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        raise PluginError(f"the module {module.__name__!r} has no file of Python source ({file}). Give a file with --from.")
    return OwnModule(module.__name__, Path(file).resolve(), is_package=hasattr(module, "__path__"))


def _module_of(source: Source) -> ModuleType:
    from plugrad.registry.resolve import import_location

    return import_location(source.target.rpartition(":")[0])


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Leave no `__pycache__` beside the user's file."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
