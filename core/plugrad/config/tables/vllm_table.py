"""`[rollout.vllm]`: options of `engine = "vllm"`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from plugrad.config.secret_arguments import IN_ARGUMENTS
from plugrad.config.tables.number_types import Between, Count, Positive
from plugrad.config.tables.table import Table


class VllmTable(Table):
    """`[rollout.vllm]`: vLLM in the training process, one engine per rank."""

    secrets_belong: ClassVar[str] = IN_ARGUMENTS

    tensor_parallel_size: Count = Field(
        default=1, description="Number of neighbouring ranks that share one engine. Must divide the number of ranks."
    )
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1), AfterValidator(Between(1e-3, 1))] = Field(
        default=0.4, description="Fraction of a GPU's memory that vLLM may use, including its weights."
    )
    kv_cache_gib: Positive | None = Field(
        default=None,
        description="Size of the KV cache in GiB. Default: 1 on a CPU; on a GPU, what gpu_memory_utilization leaves.",
    )
    enforce_eager: bool | None = Field(
        default=None, description="Turn off compilation and CUDA graphs. Default: true on a CPU, false on a GPU."
    )
    sleep: bool | None = Field(
        default=None,
        description="Free device memory after sampling. Default: true if vLLM supports it and max_staleness is 0.",
    )
    plugins: list[str] = Field(
        default=[], description="vLLM plugins that may load (`VLLM_PLUGINS`). All others are blocked."
    )
    kwargs: dict[str, Any] = Field(default={}, description="Further arguments for vLLM's `LLM`.")
