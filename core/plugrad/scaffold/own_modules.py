"""The user's own modules behind a component, and how their imports read once the modules lie together in a package."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from plugrad.errors import PluginError
from plugrad.paths import read_bytes
from plugrad.registry.local_modules import LOCAL
from plugrad.scaffold.import_origins import Origin, find_dotted, origin_of_import
from plugrad.shown import printable

FROM = re.compile(r"^from\b[.\w\s\\]*?\bimport\b")
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$")
LONGEST_PATH = 200
Import = ast.Import | ast.ImportFrom


@dataclass(frozen=True)
class OwnModule:
    """A module of the user's: a file, and the name under which it is imported."""

    name: str
    """Dotted. Empty for a file that no import finds."""
    path: Path
    is_package: bool = False

    @cached_property
    def raw(self) -> bytes:
        """The file, byte by byte."""
        return read_bytes(self.path)

    @cached_property
    def encoding(self) -> str:
        """As the file declares it."""
        return tokenize.detect_encoding(io.BytesIO(self.raw).readline)[0]

    @cached_property
    def text(self) -> str:
        """The file as text, with its line ends."""
        return self.raw.decode(self.encoding)

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree.

        Raises:
            PluginError: it is not Python, or cannot be read.
        """
        try:
            return ast.parse(self.text)
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise PluginError(f"{self.path} cannot be read as Python: {printable(error)}. Correct it.") from error

    @cached_property
    def imports(self) -> list[tuple[Import, bool]]:
        """Its imports, and whether they happen when it is used, not just for type checkers."""
        return list(_imports(self.tree.body))

    @property
    def looks_beside(self) -> bool:
        """Whether it asks where it lies, to read files there."""
        return any(isinstance(node, ast.Name) and node.id == "__file__" for node in ast.walk(self.tree))

    @property
    def files_beside(self) -> list[str]:
        """The files beside it that it names, if it looks there at all."""
        named = {
            node.value for node in ast.walk(self.tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        return sorted(name for name in named if _is_beside(self.path.parent, name)) if self.looks_beside else []

    def absolute(self, node: ast.ImportFrom) -> str | None:
        """Return the dotted name that an import is from; None if it leads out of every package."""
        if not node.level:
            return node.module or ""
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        try:
            return importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        except ImportError:
            return None


@dataclass
class OwnModules:
    """The module of a component, with every module of the user's that it imports, and every package."""

    main: OwnModule
    folders: tuple[str, ...]
    """Where modules of the user's own are looked for, in this order."""
    others: dict[str, OwnModule] = field(default_factory=dict)
    """By dotted name."""
    requirements: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    """Top-level names of modules that are imported somewhere and not found."""

    @classmethod
    def of(cls, main: OwnModule, folders: tuple[str, ...]) -> OwnModules:
        """Follow the imports of a module, statement by statement. Nothing is imported.

        Raises:
            PluginError: one of them cannot go into a package.
        """
        found = cls(main, folders)
        found._follow(main)
        return found

    @property
    def modules(self) -> list[OwnModule]:
        """All modules, the component's first."""
        return [self.main, *self.others.values()]

    def take_in(self, loaded: Iterable[str]) -> None:
        """Add the modules of the user's that were loaded together with the component's, and that no statement imports.

        Raises:
            PluginError: one of them would not be found in the package.
        """
        if "." in self.main.name and not self.keeps_structure:
            return
        tops = {name.partition(".")[0] for name in self.others}
        unseen = [name for name in loaded if LOCAL.has_found(name) and name not in self.others and self.is_own(name)]
        for name in unseen:
            top = name.partition(".")[0]
            if top in tops:
                self.add(name, self.main)
            elif top != self.main.name.partition(".")[0]:
                raise PluginError(
                    f"{self.main.path} loads {name!r}, a module of yours, without an import statement, so a package would "
                    f"not find it. Write: import {name}"
                )

    @property
    def keeps_structure(self) -> bool:
        """Whether the component's module has to stay where it is in its package, because others of it come along."""
        top = self.main.name.partition(".")[0]
        in_package = self.main.is_package or "." in self.main.name
        return in_package and any(name.partition(".")[0] == top for name in self.others)

    def contents(self, main: str) -> dict[str, bytes]:
        """Return the text of every module by its path in the package, with `main` as the dotted name of the component's.

        A module whose imports still hold is the same byte by byte.
        """
        places = {self.main.name: main, **{name: name for name in self.others}}
        return {_path(places[module.name], module): self._rewritten(module, places) for module in self.modules}

    def data(self, main: str) -> dict[str, Path]:
        """Return the files beside the modules that read files beside themselves, by their path in the package."""
        places = {self.main.name: main}
        return {
            (Path(_path(places.get(module.name, module.name), module)).parent / name).as_posix(): module.path.parent / name
            for module in self.modules
            for name in module.files_beside
        }

    def origin(self, module: str) -> Origin:
        """Return where an imported module comes from."""
        return origin_of_import(module, self.folders)

    def add(self, name: str, by: OwnModule) -> None:
        """Add a module of the user's, with the packages that it lies in.

        Raises:
            PluginError: it has no source, or leads back to a file that is not imported by name.
        """
        parts = name.split(".")
        for dotted in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
            spec = find_dotted(dotted, self.folders)
            if spec is None or not spec.has_location or dotted in self.others or dotted == self.main.name:
                continue
            path = Path(spec.origin or "").resolve()
            if path.suffix != ".py":
                raise PluginError(
                    f"{by.path} imports {dotted!r} from {path}, which is not Python source, so it cannot be copied into a "
                    "package. Install it as a package of its own, then run this again."
                )
            if path == self.main.path.resolve():
                raise PluginError(
                    f"{by.path} imports {dotted!r}, the file of the component itself, so the two import each other. Move "
                    "what both need into a third file, and import it in both."
                )
            self.others[dotted] = OwnModule(dotted, path, is_package=spec.submodule_search_locations is not None)
            self._follow(self.others[dotted])

    def _follow(self, module: OwnModule) -> None:
        for node, is_used in module.imports:
            for name in self._modules_of(module, node):
                self._note(module, name, is_used=is_used)

    def _note(self, module: OwnModule, name: str, *, is_used: bool) -> None:
        origin = self.origin(name)
        if origin.stray and is_used:
            raise PluginError(
                f"{module.path} imports {name!r} from {origin.stray}, which belongs to no installed package and does not "
                "lie beside the file, so nobody else would have it. Copy it beside the file, or install it with pip."
            )
        if origin.folder:
            self.add(name, module)
        elif origin.requirement and is_used:
            self.requirements.add(origin.requirement)
        elif origin.is_missing and is_used:
            self.missing.add(name.partition(".")[0])

    def _modules_of(self, module: OwnModule, node: Import) -> list[str]:
        """Return the modules that an import statement imports, by their dotted names."""
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        base = module.absolute(node)
        if not base:
            return []
        inner = [f"{base}.{alias.name}" for alias in node.names if alias.name != "*"]
        return [base, *(name for name in inner if self.is_own(base) and find_dotted(name, self.folders))]

    def is_own(self, name: str) -> bool:
        """Return whether an import of this name finds a module of the user's."""
        return self.origin(name).folder is not None

    def _rewritten(self, module: OwnModule, places: dict[str, str]) -> bytes:
        changes = [(node, text) for node, _ in module.imports if (text := self._import(module, node, places))]
        if not changes:
            return module.raw
        # Offsets in a syntax tree count bytes of UTF-8.
        lines = [line.encode() for line in LINE.findall(module.text)]
        for node, text in sorted(changes, key=lambda change: (-change[0].lineno, -change[0].col_offset)):
            assert node.end_lineno is not None
            first, last = node.lineno - 1, node.end_lineno - 1
            replaced = lines[first][: node.col_offset] + text.encode() + lines[last][node.end_col_offset :]
            lines[first : last + 1] = [replaced]
        return b"".join(lines).decode().encode(module.encoding)

    def _import(self, module: OwnModule, node: Import, places: dict[str, str]) -> str | None:
        """Return the text of an import statement that has to change; None if it still holds."""
        here = places[module.name]
        up = "." * (here.count(".") + (2 if module.is_package and here == module.name else 1))
        if isinstance(node, ast.ImportFrom):
            base = module.absolute(node)
            if not base or self.is_own(base) == bool(node.level):
                return None
            target = f"{up}{places.get(base, base)}" if not node.level else base
            return FROM.sub(f"from {target} import", ast.get_source_segment(module.text, node) or "", count=1)
        if not any(self.is_own(alias.name) for alias in node.names):
            return None
        return "; ".join(part for alias in node.names for part in self._alias(alias, up, places))

    def _alias(self, alias: ast.alias, up: str, places: dict[str, str]) -> list[str]:
        if not self.is_own(alias.name):
            return [f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")]
        top = alias.name.partition(".")[0]
        if alias.asname:
            return [_from(up, places.get(alias.name, alias.name), alias.asname)]
        inner = [_from(up, alias.name, f"_{alias.name.replace('.', '_')}")] if "." in alias.name else []
        return [*inner, _from(up, places.get(top, top), top)]


def _is_beside(folder: Path, name: str) -> bool:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or path.suffix in ("", ".py") or len(name) > LONGEST_PATH:
        return False
    try:
        return (folder / path).is_file()
    except (OSError, ValueError):
        return False


def _from(up: str, module: str, bound_as: str) -> str:
    package, _, name = module.rpartition(".")
    return f"from {up}{package} import {name}" + (f" as {bound_as}" if bound_as != name else "")


def _path(name: str, module: OwnModule) -> str:
    return f"{name.replace('.', '/')}{'/__init__' if module.is_package and name == module.name else ''}.py"


def _imports(body: list[ast.stmt], *, is_used: bool = True) -> Iterator[tuple[Import, bool]]:
    """Yield every import at any depth, but those of `if __name__ == "__main__"`: nobody runs a package's module."""
    for statement in body:
        if isinstance(statement, Import):
            yield statement, is_used
        elif isinstance(statement, ast.If):
            test = ast.unparse(statement.test)
            if "__name__" not in test:
                yield from _imports(statement.body, is_used=is_used and not test.endswith("TYPE_CHECKING"))
            yield from _imports(statement.orelse, is_used=is_used)
        else:
            for inner in ast.iter_child_nodes(statement):
                blocks = [inner] if isinstance(inner, ast.stmt) else getattr(inner, "body", [])
                if isinstance(blocks, list):
                    yield from _imports(blocks, is_used=is_used)
