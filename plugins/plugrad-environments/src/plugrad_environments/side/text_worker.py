"""The process of the rewards that read text: regular expressions, which can take for ever, and JSON with its schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from plugrad_environments.side.side_loop import serve

ALLOWED, OTHER_JSON, NO_JSON = "allowed", "other JSON", "no JSON"


def main() -> None:
    """Answer questions of three kinds."""
    kinds: dict[str, Callable[..., Any]] = {"occurs": _occurs, "last_match": _last_match, "json": _json}
    serve(lambda question: kinds[question[0]](*question[1:]))


def _occurs(pattern: str, text: str, whole: bool) -> bool:
    matches = re.fullmatch if whole else re.search
    return matches(pattern, text, flags=re.DOTALL) is not None


def _last_match(pattern: str, text: str) -> str | None:
    found = None
    for found in re.finditer(pattern, text, flags=re.DOTALL):  # noqa: B007 - the last one is used
        pass
    return None if found is None else found[1 if found.re.groups else 0]


def _json(schema: str, text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NO_JSON
    from referencing.exceptions import Unresolvable

    try:
        return ALLOWED if _validator(schema).is_valid(value) else OTHER_JSON
    except RecursionError:
        return OTHER_JSON
    except Unresolvable as error:
        return str(error)


@cache
def _validator(schema: str) -> Any:
    import jsonschema
    from referencing import Registry

    read = json.loads(schema)
    # Nothing is fetched: a schema refers to parts of itself alone.
    return jsonschema.validators.validator_for(read, default=jsonschema.Draft202012Validator)(read, registry=Registry())


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


if __name__ == "__main__":
    main()
