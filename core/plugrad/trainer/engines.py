"""The engine of a run: checked, opened and recorded through the table of engines, for the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor

from plugrad.config.engine_kinds import ENGINES, TRANSFORMERS, EngineKind, engines_where
from plugrad.config.run_file import RunFile
from plugrad.config.tables.rollout_table import RolloutTable
from plugrad.errors import RunFileError
from plugrad.host.environment import BoundEnvironment
from plugrad.policy.blocks import product_dtype_of
from plugrad.policy.context import context_of
from plugrad.policy.loading import LoadedModel
from plugrad.rollout.engine import RolloutEngine
from plugrad.rollout.engine_implementation import EngineImplementation, EngineSetup
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.packages import require
from plugrad.rollout.stops import stop_ids
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")


def check_engine(run_file: RunFile, ranks: Ranks) -> None:
    """Check, before a model is loaded, that the engine can be opened. Warn about the tables of other engines.

    Raises:
        EngineError: a package is not installed, the variable with the servers' key is not set, or a server does not answer.
    """
    kind = run_file.rollout.engine_kind
    implementation = _implementation(kind)
    require(kind.name, implementation.packages(run_file, ranks.is_main))
    implementation.check(run_file, ranks.is_main)
    _warn_about_unused_tables(run_file.rollout)


def check_plays(run_file: RunFile, environment: BoundEnvironment, of_sets: Mapping[str, BoundEnvironment]) -> None:
    """Check that the engine can answer environments that play with the policy.

    Raises:
        RunFileError: it replays completions, or ranks share it.
    """
    table, kind = run_file.rollout, run_file.rollout.engine_kind
    if environment.plays and not kind.samples:
        sampling = engines_where(lambda kind: kind.samples)
        raise RunFileError(
            f'rollout.engine = "{kind.name}" replays completions, and {environment.component} plays with the policy, which '
            f"must sample. Set rollout.engine = {sampling}."
        )
    playing = next((bound for bound in (environment, *of_sets.values()) if bound.plays), None)
    if playing is not None and table.ranks_per_engine > 1:
        raise RunFileError(
            f"rollout.{kind.ranks_per_engine} is {table.ranks_per_engine}, and {playing.component} plays with the policy: "
            "ranks that share an engine must ask it as often as one another, but each plays as many turns as its own plays "
            'take. Set it to 1, or sample with rollout.engine = "vllm-server", whose servers share nothing with the ranks.'
        )


def check_sampling_when_sharded(run_file: RunFile, *, samples_greedily: bool) -> None:
    """Check that nothing generates with the policy, for runs that shard it.

    Args:
        run_file: the run's.
        samples_greedily: whether the advantage needs greedy completions.

    Raises:
        RunFileError: naming the key that does, and the alternatives.
    """
    engine = run_file.rollout.engine_kind
    evaluates = run_file.evaluation.every_steps > 0
    users = {
        "rollout.engine": engine,
        "evaluation.every_steps": _sampling_kind(engine) if evaluates else None,
        "the advantage": _sampling_kind(engine) if samples_greedily else None,
    }
    for key, kind in users.items():
        if kind is not None and kind.generates_with_policy:
            own_weights = engines_where(lambda kind: kind.has_own_weights)
            replaying = engines_where(lambda kind: not kind.samples)
            raise RunFileError(
                f"{key} asks {kind.name} to generate with the policy itself, which FSDP2 has sharded. Sample with "
                f"rollout.engine = {own_weights}, train without sharding (distributed_type: MULTI_GPU), or replay "
                f"completions (rollout.engine = {replaying}, evaluation.every_steps = 0)."
            )


Autocast = Callable[[], AbstractContextManager[None]]


def open_engine(run_file: RunFile, loaded: LoadedModel, ranks: Ranks, autocast: Autocast) -> RolloutEngine:
    """Open the engine of the run. One with its own weights waits for the first update, one without uses `autocast`.

    Raises:
        EngineError: it does not start.
    """
    return _open(run_file.rollout.engine_kind, run_file, loaded, ranks, autocast)


def open_sampling_engine(
    engine: RolloutEngine, run_file: RunFile, loaded: LoadedModel, ranks: Ranks, autocast: Autocast
) -> RolloutEngine:
    """Return the engine that evaluation samples with: the run's own, or another one beside an engine that replays."""
    kind = run_file.rollout.engine_kind
    return engine if kind.samples else _open(_sampling_kind(kind), run_file, loaded, ranks, autocast)


def _sampling_kind(kind: EngineKind) -> EngineKind:
    return kind if kind.samples else TRANSFORMERS


def _open(kind: EngineKind, run_file: RunFile, loaded: LoadedModel, ranks: Ranks, autocast: Autocast) -> RolloutEngine:
    setup = EngineSetup(
        run_file,
        loaded.model,
        _engine_model(run_file, loaded, autocast),
        is_main=ranks.is_main,
        on_main=ranks.from_main,
        autocast=autocast,
    )
    engine: RolloutEngine = _implementation(kind).open(setup)
    return engine


def engine_record(run_file: RunFile, engine: RolloutEngine | None = None) -> dict[str, Any]:
    """Return what `plugins.json` records about the engine. Before it is open, this comes from the run file alone."""
    kind = run_file.rollout.engine_kind
    return {"name": kind.name, **_implementation(kind).record(run_file, engine)}


def _implementation(kind: EngineKind) -> EngineImplementation[Any]:
    implementation: EngineImplementation[Any] = resolve_name(kind.implementation)
    return implementation


def _warn_about_unused_tables(rollout: RolloutTable) -> None:
    for kind in ENGINES:
        table = rollout.own_table(kind)
        if kind.name != rollout.engine and table is not None and table != type(table)():
            logger.warning(f'[rollout.{kind.table}] is for the engine "{kind.name}": rollout.engine is "{rollout.engine}".')


def _computes_in(weight: Tensor, autocast: Autocast) -> torch.dtype:
    with autocast():
        return product_dtype_of(weight)


def _engine_model(run_file: RunFile, loaded: LoadedModel, autocast: Autocast) -> EngineModel:
    lengths = [run_file.tokens_per_micro_batch, context_of(loaded.model).length]
    return EngineModel(
        None if loaded.has_grown else run_file.model.name,
        loaded.model.config,
        loaded.tokenizer,
        _computes_in(next(loaded.model.parameters()), autocast),
        stop_ids(loaded.model, loaded.tokenizer),
        # No longer sequence is trained on, and a cache for a long context may not fit.
        min(length for length in lengths if length is not None),
        trust_remote_code=run_file.model.trust_remote_code,
    )
