"""Calling into a plugin: what it raises is its own, and is reported so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plugrad.errors import ContractError, PlugradError


def call_plugin(owner: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call a plugin's function.

    Raises:
        ContractError: the plugin raised; its exception is the `__cause__`.
        PlugradError: as it is, where the plugin raised one on purpose.
    """
    try:
        return call(*args)
    except PlugradError:
        raise
    except Exception as error:
        raise ContractError(f"{owner} raised {type(error).__name__}: {error}") from error
