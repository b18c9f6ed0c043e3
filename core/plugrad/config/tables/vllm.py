"""`[rollout.vllm]`: vLLM in the training process, for `engine = "vllm"`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from plugrad.config.tables.table import Table


class VllmTable(Table):
    """`[rollout.vllm]`: vLLM in the training process, one engine a rank."""

    tensor_parallel_size: PositiveInt = Field(
        default=1, description="So many neighbouring ranks share one engine; it must divide their number."
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.4, description="The share of a GPU's memory that vLLM may take, weights included."
    )
    kv_cache_gib: PositiveFloat | None = Field(
        default=None,
        description="Of the key-value cache; default: 1 on a CPU, and on a GPU what gpu_memory_utilization leaves.",
    )
    enforce_eager: bool | None = Field(
        default=None, description="Neither compile nor capture graphs; default: true on a CPU, false on a GPU."
    )
    sleep: bool | None = Field(
        default=None,
        description="Give the device's memory back after sampling; default: where vLLM can, and max_staleness is 0.",
    )
    plugins: list[str] = Field(
        default=[], description="vLLM's own plugins that may run in it (`VLLM_PLUGINS`); others may not."
    )
    kwargs: dict[str, Any] = Field(default={}, description="Further arguments of vLLM's `LLM`.")
