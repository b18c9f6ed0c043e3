"""Environments of `verifiers` by id or path, with their options as `verifiers` has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from plugrad import DataError, OptionError, PluginError
from plugrad_environments.extras import needed
from plugrad_environments.wording import cut, reason

HARNESS = "plugrad_chat"
Args = Mapping[str, Any]


def verifiers() -> Any:
    """Import `verifiers.v1`.

    Raises:
        PluginError: it is not installed, or is a version that has no v1 with environments.
    """
    package = needed("verifiers", extra="verifiers", for_what="the environment 'verifiers'")
    try:
        found = import_module("verifiers.v1")
        found.resolve_env_config, found.SingleAgentEnv  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"the environment 'verifiers' needs verifiers 0.4, and {getattr(package, '__version__', 'another version')} is "
            f"installed ({reason(error)}). Install it: pip install 'verifiers>=0.4,<0.5'."
        ) from error
    return found


def taskset_id(asked: Path) -> str:
    """Return the id under which `verifiers` imports a taskset: that of an installed package, or of a file or folder.

    Raises:
        OptionError: another module of this name is imported already, or the file is none of Python's.
    """
    if not asked.exists():
        return asked.as_posix()
    path = asked.resolve()
    if not (path.is_dir() or path.suffix == ".py"):
        raise OptionError(f"id = {cut(str(asked))} is no Python file, no folder with a package, and no package's name.")
    name, folder = path.stem, str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
        # Servers of tools are processes that import the same module.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    module = _imported(name)
    found = Path(getattr(module, "__file__", None) or ".").resolve()
    if path not in (found, found.parent):
        raise OptionError(f"id = {cut(str(asked))} is called {name}, as is {found}, which Python imports. Rename yours.")
    return name


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except Exception as error:
        raise DataError(f"{name}, the taskset of verifiers, cannot be imported: {reason(error)}.") from error


def environment_of(id: str, args: Args) -> Any:
    """Return an environment of `verifiers`.

    Raises:
        OptionError: there is no such taskset, or `verifiers` refuses the options.
    """
    vf = verifiers()
    _check_taskset(vf, id)
    try:
        config = vf.resolve_env_config(_with_defaults(vf, id, args))
        return vf.load_environment(config)
    except Exception as error:
        raise OptionError(f"verifiers refuses {cut(id)} with args = {cut(dict(args))}: {reason(error)}.") from error


def _check_taskset(vf: Any, id: str) -> None:
    try:
        vf.import_taskset(id)
    except ModuleNotFoundError as error:
        missing = getattr(error.__cause__ or error, "name", None)
        name = id.rsplit("/", 1)[-1].split("@", 1)[0].replace("-", "_").lower()
        if missing == name:
            raise OptionError(
                f"verifiers has no taskset {cut(id)}: no package of this name is installed, and there is no such file or "
                "folder beside the run file or in the working directory. Install it, or write its path."
            ) from error
        raise DataError(f"the taskset {cut(id)} of verifiers cannot be imported: {reason(error)}.") from error
    except Exception as error:
        raise DataError(f"the taskset {cut(id)} of verifiers cannot be imported: {reason(error)}.") from error


def _with_defaults(vf: Any, id: str, args: Args) -> dict[str, Any]:
    """Return the options with a harness and a place for each agent that has none.

    verifiers' own are a shell for the model in a sandbox of its maker. Here, a model gets no shell unless it is asked for.
    """
    data: dict[str, Any] = {**args, "taskset": {**(args.get("taskset") or {}), "id": id}}
    own_harness = vf.default_harness_id(id) == id
    for role, field in vf.env_config_type(id, data.get("id") or "").model_fields.items():
        if not isinstance(field.default, vf.AgentConfig):
            continue
        agent = dict(data.get(role) or {})
        if field.default.harness is None and not agent.get("harness") and not own_harness:
            agent["harness"] = {"id": HARNESS}
        named = (agent.get("harness") or {}).get("id") or (field.default.harness and field.default.harness.id) or id
        placed = "runtime" in agent or "runtime" in field.default.model_fields_set
        if not placed and not _runs_code(named):
            agent["runtime"] = {"type": "subprocess"}
        data[role] = agent
    return data


def _runs_code(harness: str) -> bool:
    from verifiers.v1.utils.loaders import harness_class

    return bool(harness_class(harness).EXECUTES_CODE)


def merged(args: Args, over: Args) -> dict[str, Any]:
    """Return options with others over them, table by table."""
    found = dict(args)
    for name, value in over.items():
        below = found.get(name)
        found[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return found
