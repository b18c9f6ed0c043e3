"""How plugrad starts Python in another process.

A run can write into the working directory, so no file there may replace a module, in any process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

HOME = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PYTHON = (sys.executable, "-P")
"""Without -P, Python puts the working directory or the script's folder first on its path."""
SAFE_PATH = "PYTHONSAFEPATH"
"""The same as -P, for processes that are started by processes that are started."""


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with `variables`, and without the working directory in PYTHONPATH."""
    given = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": without_working_directory(given.split(os.pathsep)), **variables}


def environment_with_own_path(**variables: str) -> dict[str, str]:
    """Return an environment in which another process finds the installed modules that this process finds."""
    return {**environment(), "PYTHONPATH": without_working_directory(sys.path), **variables}


def without_working_directory(folders: Iterable[str]) -> str:
    """Return a PYTHONPATH of those `folders` that are not the working directory. An empty one would mean that."""
    return os.pathsep.join(folder for folder in folders if folder and not is_working_directory(folder))


def how_it_ended(exit_code: int) -> str:
    """Return "exit code 3" or "SIGSEGV", for an exit code as `subprocess` has it."""
    names = {each.value: each.name for each in signal.Signals}
    return f"exit code {exit_code}" if exit_code >= 0 else names.get(-exit_code, f"signal {-exit_code}")


def leave_out_working_directory() -> list[str]:
    """Take the working directory off `sys.path`. Return the names of the modules that were already imported from there."""
    sys.path[:] = [folder for folder in sys.path if not is_working_directory(folder)]
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if "." not in name}
    return [name for name, file in files.items() if file and name != "__main__" and is_working_directory(_folder_of(file))]


def is_working_directory(folder: str) -> bool:
    """Return whether an entry of `sys.path` is the working directory; False if that is where plugrad itself lies."""
    try:
        here = os.getcwd()
    except OSError:
        return False
    return os.path.realpath(folder or here) == os.path.realpath(here) != HOME


def _folder_of(file: str) -> str:
    """Return the folder of `sys.path` in which a top-level module was found."""
    folder, name = os.path.split(file)
    return os.path.dirname(folder) if os.path.splitext(name)[0] == "__init__" else folder
