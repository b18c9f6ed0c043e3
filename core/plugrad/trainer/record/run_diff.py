"""How a run differs from an earlier one, by the record that it left: `plugrad train --like RUN_FOLDER`."""

from __future__ import annotations

import re
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
from plugrad.registry.source_sums import named_file
from plugrad.shown import printable
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.record.run_folder import PLUGINS, RUN_FILE

OF_COMPONENTS = ("environment", "advantage", "loss", "metric", "extension", "optimizer")
"""Tables whose names and options are compared through the record of the components, which has the defaults too."""
IN_THE_RECORD = re.compile(rf"({'|'.join(OF_COMPONENTS)}|evaluation\.sets\..+\.environment)(\.\d+)?\.(name|kwargs)(\.|$)")
"""Their keys that hold these."""


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
        """Return the keys of the run file that have changed, and what it now says otherwise of components.

        Nothing is imported: of a component, its name and the options that are given are compared.
        """
        now = as_tables(run_file)
        return [*_of_tables(self.tables, now), *_of_given(self.tables, now)]

    def differences_from(self, later: EarlierRun) -> list[Difference]:
        """Return the same for another run that left its record."""
        return self._differences(later.tables, later.plugins)

    def _differences(self, tables: Mapping[str, Any], plugins: Mapping[str, Any]) -> list[Difference]:
        return [
            *_of_mappings("version of ", self.plugins["versions"], plugins["versions"]),
            *_of_mappings("", _runs(self.plugins), _runs(plugins)),
            *_of_components(self.plugins["components"], _known_to(self.plugins["components"], plugins["components"])),
            *_of_mappings("module ", self.plugins.get("modules", {}), plugins.get("modules", {})),
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
        yield from _of_options(name, before[name], after[name])


def _of_options(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    then, now = before.get("options", {}), after.get("options", {})
    for option in {**then, **now}:
        was, its = then.get(option), now.get(option)
        # A file that has moved is the same one.
        files = before.get("files", {}), after.get("files", {})
        if not same(was, its) and not same(*map(_with_sums, (was, its), files)):
            yield Difference(f"{name}: {option}", was, its)


def _with_sums(value: Any, sums: Mapping[str, str]) -> Any:
    """Return an option with the sum of each file in place of its path, as far as they are known."""
    if isinstance(value, dict):
        return {key: _with_sums(part, sums) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_sums(part, sums) for part in value]
    file, rest = named_file(value) if isinstance(value, str) else (None, "")
    return f"sha256:{sums[str(file)]}{rest}" if str(file) in sums else value


def _of_tables(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = dict(leaves(then)), dict(leaves(now))
    for key in {**before, **after}:
        if key != "output_dir" and not IN_THE_RECORD.match(key) and not same(before.get(key), after.get(key)):
            yield Difference(key, before.get(key), after.get(key))


def _of_given(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for kind in OF_COMPONENTS:
        before, after = _listed(then.get(kind)), _listed(now.get(kind))
        was, its = ([str(table.get("name")).rpartition("/")[2] for table in tables] for tables in (before, after))
        if after and was != its:
            yield Difference(f"{kind} names", ", ".join(was), ", ".join(its))
            continue
        for name, old, new in zip(its, before, after, strict=False):
            for option, value in new.get("kwargs", {}).items():
                recorded = old.get("kwargs", {}).get(option)
                if not _came_to(value, recorded):
                    yield Difference(f"{kind} {name}: {option}", recorded, value)


def _listed(tables: Any) -> list[Mapping[str, Any]]:
    return tables if isinstance(tables, list) else [tables] if tables else []


def _came_to(given: Any, recorded: Any) -> bool:
    """Return whether a given option may be what is recorded: with its defaults, and with a path written out."""
    if isinstance(given, dict) and isinstance(recorded, dict):
        return all(_came_to(part, recorded.get(key)) for key, part in given.items())
    if isinstance(given, list) and isinstance(recorded, list):
        return len(given) == len(recorded) and all(map(_came_to, given, recorded))
    if isinstance(given, str) and isinstance(recorded, str) and named_file(recorded)[0] is not None:
        return given.rpartition("/")[2] == recorded.rpartition("/")[2]
    return same(given, recorded)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a run file with its value, and of a list of tables, every key of each under its number."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from leaves(item, f"{key}.{index}")
    else:
        yield key, value


def _by_name(components: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the components by kind and name. A local file counts as the same one in another folder."""
    seen: Counter[str] = Counter()
    found: dict[str, Mapping[str, Any]] = {}
    for component in components:
        own = f"{component['kind']} {component['reference'].rpartition('/')[2]}"
        name = f"evaluation.sets.{component['set']}: {own}" if "set" in component else own
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
