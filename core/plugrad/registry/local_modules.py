"""The user's own modules: found for the references that name them, and for the files of the user's own, by nobody else."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from plugrad.registry.modules import find_in_folders

OF_FILES = "plugrad_file_"
"""How the names of modules begin that were imported by the paths of their files."""


class LocalModules(MetaPathFinder):
    """The last of Python's finders, so that a local module shadows no installed one.

    It finds a module in `folders` for two askers: `import_module`, with the name that a reference gives, and a local module
    that imports another one. A library that looks for a package which is not installed finds nothing here.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        """Where references are looked up."""
        self._folder_of: dict[str, str] = {}
        """The folder of each local module, by its top-level name."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module beside the local module that imports it, or in `folders`."""
        beside = self._folder_of.get(_asking_module()) if path is None else None
        return self._find(name, [beside, *self.folders]) if beside else None

    def import_module(self, name: str) -> ModuleType:
        """Import a module that a reference names: an installed one, or else one in `folders`.

        Raises:
            ImportError: there is none.
        """
        top = name.partition(".")[0]
        if not _is_installed(top) and (spec := self._find(top, self.folders)):
            _execute(top, spec)
        return importlib.import_module(name)

    def has_found(self, name: str) -> bool:
        """Return whether a module, or the package that it lies in, was found here and not among the installed ones."""
        return name.partition(".")[0] in self._folder_of

    def import_file(self, path: Path) -> ModuleType:
        """Import a file. Each path has its own module name: two files called loss.py do not collide, and pickles work."""
        name = f"{OF_FILES}{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
        self._folder_of[name] = str(path.parent)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        return _execute(name, spec)

    def _find(self, name: str, folders: Iterable[str]) -> ModuleSpec | None:
        for folder in folders:
            if spec := find_in_folders([folder], name):
                self._folder_of[name] = folder
                return spec
        return None


LOCAL = LocalModules()
sys.meta_path.append(LOCAL)


def _is_installed(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _execute(name: str, spec: ModuleSpec) -> ModuleType:
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _asking_module() -> str:
    """Return the top-level name of the module whose code imports: of the first frame outside the import system."""
    frame = sys._getframe(2)
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith(("importlib.", "_frozen_importlib")) | (
        frame.f_globals.get("__name__") == "importlib"
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).partition(".")[0]
