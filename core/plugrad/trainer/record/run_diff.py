"""How a run differs from an earlier one, by the record that it left: `plugrad train --like RUN_FOLDER`."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.config.reading import as_tables
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.paths import exists, expanded, read_text
from plugrad.registry.option_forms import same
from plugrad.registry.provenance import in_one_line
from plugrad.shown import printable
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.record.run_folder import PLUGINS, RUN_FILE

OF_COMPONENTS = ("environment", "advantage", "loss", "metric", "extension", "optimizer")
"""Tables whose names and options are compared through the record of the components, which has the defaults too."""


@dataclass(frozen=True)
class Difference:
    """One thing that has changed."""

    what: str
    then: Any
    now: Any


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run, as its run folder or the folder of its saved model records it."""

    folder: Path
    tables: Mapping[str, Any]
    """The resolved run file."""
    plugins: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> EarlierRun:
        """Read a run folder, or the model folder inside it.

        Raises:
            RunFileError: the folder holds no run.
        """
        folder = expanded(folder)
        missing = [name for name in (RUN_FILE, PLUGINS) if not exists(folder / name)]
        if missing:
            found = f"it has no {missing[0]}" if exists(folder) and folder.is_dir() else "there is no such folder"
            raise RunFileError(
                f"a run cannot be compared with {printable(folder)}: {found}. Give the folder of a run, or of a model "
                f"that a run saved: both hold {RUN_FILE} and {PLUGINS}."
            )
        try:
            tables = _with_defaults(tomllib.loads(read_text(folder / RUN_FILE)))
            plugins = read_plugins(folder / PLUGINS)
        except (OSError, ValueError, RecursionError) as error:
            raise RunFileError(f"a run cannot be compared with {folder}: {printable(error)}.") from error
        return cls(folder, tables, plugins)

    @property
    def run_file(self) -> Path:
        """The resolved run file: training it repeats the run."""
        return self.folder / RUN_FILE

    def differences(self, run_file: RunFile, plugins: Mapping[str, Any]) -> list[Difference]:
        """Return what has changed: versions, packages, sources, options, and keys of the run file.

        Facts that an older plugrad did not record, `output_dir` and the location of packages are not compared.
        """
        return self._differences(as_tables(run_file), plugins)

    def differences_of_keys(self, run_file: RunFile) -> list[Difference]:
        """Return the keys of the run file that have changed. Options of components are not among them."""
        return list(_of_tables(self.tables, as_tables(run_file)))

    def differences_from(self, later: EarlierRun) -> list[Difference]:
        """Return the same for another run that left its record."""
        return self._differences(later.tables, later.plugins)

    def _differences(self, tables: Mapping[str, Any], plugins: Mapping[str, Any]) -> list[Difference]:
        return [
            *_of_mappings("version of ", self.plugins["versions"], plugins["versions"]),
            *_of_mappings("", _runs(self.plugins), _runs(plugins)),
            *_of_components(self.plugins["components"], _known_to(self.plugins["components"], plugins["components"])),
            *_of_tables(self.tables, tables),
        ]


def _with_defaults(tables: dict[str, Any]) -> dict[str, Any]:
    """Add the keys that this plugrad knows and the earlier one did not, so that unset keys do not differ."""
    try:
        return as_tables(RunFile(**tables))
    except RunFileError:
        return tables


def _runs(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded about the run as a whole."""
    names = {"num_processes": "number of processes", "origin": "origin of plugrad"}
    found = {name: plugins[key] for key, name in names.items() if key in plugins}
    return {name: in_one_line(value) if isinstance(value, dict) else value for name, value in found.items()}


def _of_mappings(prefix: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Compare the keys that both have."""
    for key in then:
        if key in now and not same(then[key], now[key]):
            yield Difference(f"{prefix}{key}", then[key], now[key])


def _known_to(then: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out what every run has, and an older plugrad did not record."""
    kinds = {component["kind"] for component in then}
    return [component for component in now if component["kind"] in kinds or component["kind"] != "optimizer"]


def _of_components(then: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> Iterator[Difference]:
    before, after = _by_name(then), _by_name(now)
    for name in {**before, **after}:
        if name not in after or name not in before:
            yield Difference(name, _whose(before.get(name)), _whose(after.get(name)))
            continue
        yield from _of_mappings(f"{name}: ", _facts(before[name]), _facts(after[name]))
        yield from _of_options(name, before[name].get("options", {}), after[name].get("options", {}))


def _of_options(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for option in {**then, **now}:
        if not same(then.get(option), now.get(option)):
            yield Difference(f"{name}: {option}", then.get(option), now.get(option))


def _of_tables(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = dict(_leaves(then)), dict(_leaves(now))
    for key in {**before, **after}:
        if key != "output_dir" and not same(before.get(key), after.get(key)):
            yield Difference(key, before.get(key), after.get(key))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a run file with its value, except those in the record of the components."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not (key.partition(".")[0] in OF_COMPONENTS and name in ("name", "kwargs")):
                yield from _leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}.{index}")
    else:
        yield key, value


def _by_name(components: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the components by kind and name. A local file counts as the same one in another folder."""
    seen: Counter[str] = Counter()
    found: dict[str, Mapping[str, Any]] = {}
    for component in components:
        name = f"{component['kind']} {component['reference'].rpartition('/')[2]}"
        seen[name] += 1
        found[name if seen[name] == 1 else f"{name} ({seen[name]})"] = component
    return found


def _facts(component: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: component[key] for key in ("package", "version", "target") if key in component}
    facts["target"] = str(facts.get("target")).rpartition("/")[2]
    if "origin" in component:
        facts["origin"] = component["origin"] and in_one_line(component["origin"])
    if "sha256" in component:
        facts["sha256 of its source"] = component["sha256"]
    return facts


def _whose(component: Mapping[str, Any] | None) -> str | None:
    if component is None:
        return None
    return f"{component['package']} {component['version']}" if component.get("package") else str(component["target"])
