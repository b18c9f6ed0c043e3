"""The checks of `[tracking]` before a model loads: packages, options, logins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from plugrad.config.tables.tracking_table import TrackingTable
from plugrad.errors import RunFileError, did_you_mean
from plugrad.shown import printable, shown
from plugrad.trainer.tracking.tracker_kinds import KINDS, Kind


def check_tracking(table: TrackingTable) -> None:
    """Check every tracker that the run file names.

    Raises:
        RunFileError: its package is missing or cannot be imported, it does not take an option, or nobody is logged in.
    """
    check_packages(table)
    for name in table.trackers:
        kind, kwargs = KINDS[name], table.kwargs.get(name, {})
        with _usable(name, kind):
            opens = resolve_name(kind.opens)
        _check_kwargs(name, kind, kwargs, opens)


def check_packages(table: TrackingTable) -> None:
    """Check as much of it as needs no torch, so that a command says it at once: packages and logins.

    Raises:
        RunFileError: a package is missing or cannot be imported, or nobody is logged in.
    """
    for name in table.trackers:
        kind = KINDS[name]
        if find_spec(name) is None:
            raise RunFileError(
                f"[tracking] {name}: the package {kind.package} is not installed. To install it: pip install {kind.package}"
            )
        with _usable(name, kind):
            has_login = kind.has_login(table.kwargs.get(name, {}))
        if not has_login:
            raise RunFileError(f"[tracking] {name}: nobody is logged in. To log in: {kind.how_to_log_in}.")


@contextmanager
def _usable(name: str, kind: Kind) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RunFileError(
            f"[tracking] {name}: the package {kind.package} cannot be used: {type(error).__name__}: {printable(error)}. "
            "Repair it, or leave it out of tracking.with."
        ) from error


def _check_kwargs(name: str, kind: Kind, kwargs: Mapping[str, Any], opens: Callable[..., Any]) -> None:
    parameters = list(inspect.signature(opens).parameters.values())
    named = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    takes_any = any(each.kind == each.VAR_KEYWORD for each in parameters)
    known = [each for each in named if each not in (*kind.ours, "self", "logging_dir")]
    defaults = {each.name: each.default for each in parameters}
    for key, value in kwargs.items():
        if key in kind.ours:
            raise RunFileError(
                f"[tracking.kwargs.{name}] {key}: plugrad sets it, from tracking.project, name and tags, and from the run "
                "folder. Leave it out."
            )
        if key not in known and not takes_any:
            raise RunFileError(
                f"[tracking.kwargs.{name}] has no option {shown(key)}.{did_you_mean(key, known)} {name} takes "
                f"{', '.join(known)}."
            )
        _check_type(name, key, value, defaults.get(key))


def _check_type(name: str, key: str, value: Any, default: Any) -> None:
    """Check that a number is given where one is the default, and a text where that is: some trackers fail in a thread."""
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    wanted, kinds = ("a number", (int, float)) if is_number else ("a text", (str,))
    if (is_number or type(default) is str) and (isinstance(value, bool) or not isinstance(value, kinds)):
        raise RunFileError(
            f"[tracking.kwargs.{name}] {key} = {shown(value)}: {name} takes {wanted} there, such as its default {default!r}."
        )
