"""Say which fields the inputs of a plugin have, where it read one that they do not have."""

from __future__ import annotations

from dataclasses import fields

from plugrad.errors import did_you_mean
from plugrad.host.author import KIND_OF_INPUTS
from plugrad.host.missing_key import MissingKey
from plugrad.shown import shown


def misspelt_field(error: BaseException) -> MissingKey | None:
    """Return what to say about an `AttributeError`, or None unless the inputs of a plugin lack that field."""
    inputs = getattr(error, "obj", None)
    if not isinstance(error, AttributeError) or type(inputs).__name__ not in KIND_OF_INPUTS:
        return None
    names = [field.name for field in fields(inputs)]  # type: ignore[arg-type]
    of_several = [name for name in names if name.endswith(f"_{error.name}")]
    meant = f" Did you mean {' or '.join(map(shown, of_several))}?" if of_several else did_you_mean(str(error.name), names)
    return MissingKey(meant.lstrip() or "It has no such field.", f"{type(inputs).__name__} has {', '.join(names)}.")
