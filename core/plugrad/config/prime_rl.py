"""The blocks that people coming from prime-rl have in their run files, read as ours."""

from __future__ import annotations

from typing import Any

DEFAULTS = {"loss": "importance_sampling", "advantage": "group_mean"}


def from_prime_rl(tables: dict[str, Any]) -> dict[str, Any]:
    """Return `tables` with prime-rl's `[loss]` and `[advantage]` blocks turned into ours.

    `type = "custom"` with `import_path = "module.function"` (or the older `path`) and `kwargs`; `type = "default"`.

    Raises:
        ValueError: `type` or the path is not one of prime-rl's.
    """
    converted = dict(tables)
    for kind in DEFAULTS:
        found = converted.get(kind)
        if isinstance(found, dict):
            converted[kind] = _convert(kind, found)
        elif isinstance(found, list):
            converted[kind] = [_convert(kind, table) if isinstance(table, dict) else table for table in found]
    return converted


def _convert(kind: str, table: dict[str, Any]) -> dict[str, Any]:
    if "name" in table or not table.keys() & {"type", "import_path", "path"}:
        return table
    rest = {key: value for key, value in table.items() if key not in ("type", "import_path", "path")}
    asked = table.get("type", "custom")
    path = table.get("import_path", table.get("path"))
    if asked == "default" and path is None:
        return {"name": DEFAULTS[kind], **rest}
    if asked != "custom" or not isinstance(path, str):
        raise ValueError(
            f'[{kind}] type = {asked!r}: write type = "custom" with import_path = "module.function", or name = "..."'
        )
    return {"name": _reference(kind, path), **rest}


def _reference(kind: str, path: str) -> str:
    if ":" in path:
        return path
    module, _, function = path.rpartition(".")
    if not module:
        raise ValueError(f'[{kind}] import_path = {path!r}: write "module.function"')
    return f"{module}:{function}"
