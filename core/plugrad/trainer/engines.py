"""The engine that a run file asks for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.policy.loading import LoadedModel, context_length
from plugrad.rollout.dataset_engine import DatasetEngine
from plugrad.rollout.engine import RolloutEngine
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.packages import needed_for_servers, require
from plugrad.rollout.servers.api_key import api_key
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.rollout.stops import stop_ids
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.vllm.vllm_engine import VllmEngine
from plugrad.trainer.ranks.agreement import from_main
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")

TABLES = {"vllm": "vllm", "server": "vllm-server"}
"""Of `[rollout]`, and whose they are."""


def check_engine(run_file: RunFile, ranks: Ranks) -> None:
    """See before a model is loaded that what the engine needs is here.

    Raises:
        EngineError: a package is not installed, the variable with the servers' key is not set, or a server does not answer.
    """
    table = run_file.rollout
    if table.engine == "vllm":
        require(table.engine, ["vllm"])
    if table.engine == "vllm-server":
        require(table.engine, needed_for_servers(table.server, is_main=ranks.is_main))
        api_key(table.server)
        if ranks.is_main:
            _check_reached(run_file)
    for name, engine in TABLES.items():
        given = getattr(table, name)
        if table.engine != engine and given != type(given)():
            logger.warning(f'[rollout.{name}] is for the engine "{engine}": rollout.engine is "{table.engine}".')


def _check_reached(run_file: RunFile) -> None:
    # Here, and not above: it needs packages that only this engine does.
    from plugrad.rollout.servers.reachability import check_reached

    check_reached(run_file.rollout.server, run_file.model.name)


def open_engine(run_file: RunFile, loaded: LoadedModel, ranks: Ranks) -> RolloutEngine:
    """Open the engine of the run. One with weights of its own waits for the first that it is handed.

    Raises:
        EngineError: it cannot be started.
    """
    table = run_file.rollout
    if table.engine == "dataset":
        return DatasetEngine(loaded.tokenizer)
    if table.engine == "vllm":
        sleeps = table.max_staleness == 0
        return VllmEngine(
            table.vllm, engine_model(run_file, loaded), max_sequences=table.generation_batch_size, sleeps=sleeps
        )
    if table.engine == "vllm-server":
        return _server_engine(run_file, engine_model(run_file, loaded), ranks)
    return transformers_engine(run_file, loaded)


def _server_engine(run_file: RunFile, model: EngineModel, ranks: Ranks) -> ServerEngine:
    return ServerEngine(
        run_file.rollout.server,
        model,
        folder=Path(run_file.output_dir),
        on_main=lambda act: from_main(ranks, act),
        is_main=ranks.is_main,
    )


def transformers_engine(run_file: RunFile, loaded: LoadedModel) -> TransformersEngine:
    """Return the engine that samples with the policy itself; beside an engine that replays, evaluation uses it."""
    return TransformersEngine(loaded.model, loaded.tokenizer, run_file.rollout.generation_batch_size)


def engine_model(run_file: RunFile, loaded: LoadedModel) -> EngineModel:
    """Return what an engine with a copy of the weights must know of the policy."""
    lengths = [run_file.tokens_per_micro_batch, context_length(loaded.model)]
    return EngineModel(
        run_file.model.name,
        loaded.model.config,
        loaded.tokenizer,
        next(loaded.model.parameters()).dtype,
        stop_ids(loaded.model, loaded.tokenizer),
        # No longer sequence is trained on, and a cache for the whole of a long context may not fit.
        min(length for length in lengths if length is not None),
    )


def engine_record(run_file: RunFile, engine: RolloutEngine | None = None) -> dict[str, Any]:
    """Return what provenance says of the engine: which one, and which plugins of vLLM's own may run in it.

    Servers that ran already are asked; before the engine is open, what the run file says is all that is known.
    """
    table = run_file.rollout
    if isinstance(engine, ServerEngine):
        return {"name": table.engine, "VLLM_PLUGINS": engine.vllm_plugins}
    plugins = {"vllm": table.vllm.plugins, "vllm-server": table.server.plugins}.get(table.engine)
    return {"name": table.engine} if plugins is None else {"name": table.engine, "VLLM_PLUGINS": plugins}
