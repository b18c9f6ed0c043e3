"""`[rollout]`: how completions are sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from plugrad.config.tables.server import ServerTable
from plugrad.config.tables.table import Table
from plugrad.config.tables.vllm import VllmTable


class RolloutTable(Table):
    """`[rollout]`: how completions are sampled. Counts are over all ranks."""

    engine: Literal["transformers", "vllm", "vllm-server", "dataset"] = Field(
        default="transformers",
        description="`transformers` and `vllm` sample in the training process, `vllm-server` asks vLLM servers over HTTP, "
        "`dataset` replays each `reference`.",
    )
    prompts_per_step: PositiveInt = Field(default=32, description="Examples in a batch of rollouts.")
    rollouts_per_example: PositiveInt = Field(default=8, description="Completions of each prompt: the size of a group.")
    max_new_tokens: PositiveInt = Field(default=64, description="In tokens, the end-of-sequence token included.")
    temperature: PositiveFloat = Field(default=1.0, description="Samples come from softmax(logits / temperature).")
    generation_batch_size: PositiveInt = Field(default=512, description="Sequences that are generated at once.")
    max_staleness: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Steps that the policy may be ahead of the one that sampled a batch: 0 samples each batch when it is "
        "needed, 1 samples the next one while this one is trained on.",
    )
    parity_every_steps: PositiveInt = Field(
        default=20,
        description="How often the trainer scores a few of the engine's completions, besides before the first step and "
        "after the first update.",
    )
    parity_bound: PositiveFloat | None = Field(
        default=None,
        description="The mean difference of their log-probs, in nats, that ends the run; default: 0.001, and 0.1 where the "
        "weights have 16 bits.",
    )
    vllm: VllmTable = VllmTable()
    server: ServerTable = ServerTable()

    @property
    def samples(self) -> bool:
        """Whether the engine samples from the policy: the others replay."""
        return self.engine != "dataset"

    @model_validator(mode="after")
    def _samples_ahead_only_with_its_own_weights(self) -> RolloutTable:
        if self.max_staleness and self.engine in ("transformers", "dataset"):
            raise ValueError(
                f'max_staleness = {self.max_staleness} samples while the policy trains, and "{self.engine}" has no '
                'weights of its own: set engine = "vllm" or "vllm-server", or max_staleness = 0'
            )
        if self.max_staleness and self.engine == "vllm" and self.vllm.tensor_parallel_size > 1:
            raise ValueError(
                "max_staleness and vllm.tensor_parallel_size > 1 do not go together: ranks that share an engine must ask it "
                'for the same at the same time. Set engine = "vllm-server", or one of the two back'
            )
        return self
