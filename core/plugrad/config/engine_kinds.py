"""The table of rollout engines. To add an engine, add one entry to `ENGINES`.

An entry holds the facts that the run file, the trainer and the documentation need. It names the implementation by an import
string, so reading a run file imports neither torch nor vLLM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plugrad.config.tables.server_table import ServerTable
from plugrad.config.tables.table import Table
from plugrad.config.tables.vllm_table import VllmTable


@dataclass(frozen=True)
class EngineKind:
    """The facts about one engine."""

    name: str
    """The value of `rollout.engine`."""
    summary: str
    """Where its completions come from. The run-file reference shows it."""
    implementation: str
    """`module:attribute` of its `plugrad.rollout.engine_implementation.EngineImplementation`."""
    samples: bool = True
    """Whether it samples from the policy. An engine that does not replays each example's column `reference`."""
    has_own_weights: bool = False
    """Whether it holds a copy of the policy's weights, so it can sample while the policy trains or is sharded."""
    table: str | None = None
    """The key of its own table under `[rollout]`."""
    table_type: type[Table] | None = None
    """The type of that table."""
    ranks_per_engine: str | None = None
    """The key under `[rollout]` that sets how many neighbouring ranks share one engine. Without it each rank has its own."""

    @property
    def generates_with_policy(self) -> bool:
        """Whether it samples with the trainer's own model, which must then be whole on every rank."""
        return self.samples and not self.has_own_weights


TRANSFORMERS = EngineKind(
    name="transformers",
    summary="the model in training, with Transformers",
    implementation="plugrad.rollout.transformers_engine:IMPLEMENTATION",
)
VLLM = EngineKind(
    name="vllm",
    summary="vLLM in the training process",
    implementation="plugrad.rollout.vllm.vllm_engine:IMPLEMENTATION",
    has_own_weights=True,
    table="vllm",
    table_type=VllmTable,
    ranks_per_engine="vllm.tensor_parallel_size",
)
VLLM_SERVER = EngineKind(
    name="vllm-server",
    summary="vLLM servers, over HTTP",
    implementation="plugrad.rollout.servers.implementation:IMPLEMENTATION",
    has_own_weights=True,
    table="server",
    table_type=ServerTable,
)
DATASET = EngineKind(
    name="dataset",
    summary="each example's column `reference`, replayed",
    implementation="plugrad.rollout.dataset_engine:IMPLEMENTATION",
    samples=False,
)

ENGINES: tuple[EngineKind, ...] = (TRANSFORMERS, VLLM, VLLM_SERVER, DATASET)


def engine_names() -> list[str]:
    """Return the values that `rollout.engine` takes."""
    return [kind.name for kind in ENGINES]


def engine_named(name: str) -> EngineKind:
    """Return the engine of this name, which must be in the table."""
    return next(kind for kind in ENGINES if kind.name == name)


def engines_where(fits: Callable[[EngineKind], bool]) -> str:
    """Return the names of the engines that fit, quoted for a message: `"vllm" or "vllm-server"`."""
    return " or ".join(f'"{kind.name}"' for kind in ENGINES if fits(kind))
