"""How the engine `vllm-server` is checked, opened and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.packages import needed_for_servers
from plugrad.rollout.servers.api_key import api_key
from plugrad.rollout.servers.server_engine import ServerEngine


def _packages(run_file: RunFile, is_main: bool) -> Sequence[str]:
    return needed_for_servers(run_file.rollout.server, is_main=is_main)


def _check(run_file: RunFile, is_main: bool) -> None:
    api_key(run_file.rollout.server)
    if is_main:
        # Not at the top: it imports packages that only this engine needs.
        from plugrad.rollout.servers.reachability import check_reachable

        check_reachable(run_file.rollout.server, run_file.model.name)


def _open(setup: EngineSetup) -> ServerEngine:
    return ServerEngine(
        setup.run_file.rollout.server,
        setup.model,
        folder=Path(setup.run_file.output_dir),
        on_main=setup.on_main,
        is_main=setup.is_main,
    )


def _record(run_file: RunFile, engine: ServerEngine | None) -> dict[str, Any]:
    """Return the vLLM plugins that may load in the servers. Servers that were already running report their own."""
    return {"VLLM_PLUGINS": run_file.rollout.server.plugins if engine is None else engine.vllm_plugins}


IMPLEMENTATION = EngineImplementation(open=_open, packages=_packages, check=_check, record=_record)
