"""The `[loss]` and `[advantage]` blocks of prime-rl's run files.

They are read here and not in plugrad-compat: a run file brought from prime-rl must work with plugrad alone.
"""

from __future__ import annotations

from typing import Any

from plugrad.shown import shown

DEFAULTS = {"loss": "importance_sampling", "advantage": "group_mean"}
"""What prime-rl's `type = "default"` is called here."""


def from_prime_rl(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a run file with prime-rl's blocks turned into plugrad's.

    A block has `type = "default"`, or `type = "custom"` with `import_path = "module.function"` (formerly `path`). `kwargs`
    and other keys stay.

    Raises:
        ValueError: `type` or the path is not one of prime-rl's.
    """
    return {key: _convert(key, value) if key in DEFAULTS else value for key, value in tables.items()}


def _convert(kind: str, found: Any) -> Any:
    if isinstance(found, list):
        return [_convert(kind, table) for table in found]
    if not isinstance(found, dict) or "name" in found or found.keys().isdisjoint(("type", "import_path", "path")):
        return found
    asked = found.get("type", "custom")
    path = found.get("import_path", found.get("path"))
    if (asked, path) == ("default", None):
        name = DEFAULTS[kind]
    elif asked == "custom" and isinstance(path, str):
        name = _reference(kind, path)
    else:
        raise ValueError(
            f'[{kind}] type = {shown(asked)}: write type = "custom" with import_path = "module.function", or name = "..."'
        )
    return {"name": name} | {key: value for key, value in found.items() if key not in ("type", "import_path", "path")}


def _reference(kind: str, path: str) -> str:
    module, _, function = path.rpartition(":" if ":" in path else ".")
    if not module:
        raise ValueError(f'[{kind}] import_path = {shown(path)}: write "module.function"')
    return f"{module}:{function}"
