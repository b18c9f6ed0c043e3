"""The checks of `[tracking]` before a model loads: packages, options, logins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
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
    for name in table.trackers:
        kind, kwargs = KINDS[name], table.kwargs.get(name, {})
        if find_spec(name) is None:
            raise RunFileError(
                f"[tracking] {name}: the package {kind.package} is not installed. To install it: pip install {kind.package}"
            )
        try:
            opens = resolve_name(kind.opens)
            has_login = kind.has_login(kwargs)
        except Exception as error:
            raise RunFileError(
                f"[tracking] {name}: the package {kind.package} cannot be used: {type(error).__name__}: {printable(error)}. "
                "Repair it, or leave it out of tracking.with."
            ) from error
        _check_kwargs(name, kind, kwargs, opens)
        if not has_login:
            raise RunFileError(f"[tracking] {name}: nobody is logged in. To log in: {kind.how_to_log_in}.")


def _check_kwargs(name: str, kind: Kind, kwargs: Mapping[str, Any], opens: Callable[..., Any]) -> None:
    parameters = inspect.signature(opens).parameters.values()
    named = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    takes_any = any(each.kind == each.VAR_KEYWORD for each in parameters)
    known = [each for each in named if each not in (*kind.ours, "self", "logging_dir")]
    for key in kwargs:
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
