"""The packages that this one needs for some of what it does, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from plugrad import PluginError


def needed(module: str, *, extra: str, for_what: str) -> Any:
    """Import and return a module of an optional package.

    Raises:
        PluginError: the package is not installed, or cannot be imported. The message has the command that installs it.
    """
    package = module.replace("_", "-")
    install = (
        f"pip install 'plugrad-environments[{extra}]' (from a clone: pip install './plugins/plugrad-environments[{extra}]')"
    )
    try:
        return import_module(module)
    except ImportError as error:
        # A missing part of an installed package is no reason to install the package again.
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise PluginError(
                f"{for_what} needs the package {package}, which is not installed. Install it: {install}."
            ) from error
        raise PluginError(
            f"{for_what} needs the package {package}, which cannot be imported: {type(error).__name__}: {error}. "
            f"Install it again: {install}."
        ) from error
