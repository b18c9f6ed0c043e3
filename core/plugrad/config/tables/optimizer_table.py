"""`[optimizer]`: the optimizer and its options, the learning-rate schedule and gradient clipping."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from plugrad.config.tables.number_types import CountOrZero, Positive, PositiveOrInf, PositiveOrZero
from plugrad.config.tables.parameter_group_table import ParameterGroupTable
from plugrad.config.tables.table import Table

Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Schedule = Literal[
    "constant",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
    "constant_with_warmup",
]
OF_A_NUMBER = ("reduce_lr_on_plateau", "greedy")
"""Schedules of Transformers that follow a number which is measured during training."""
WITHOUT_END = ("constant", "constant_with_warmup", "inverse_sqrt")
"""Schedules that do not depend on how long a run is."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class OptimizerTable(Table):
    """`[optimizer]`: the optimizer and its options, the learning-rate schedule and gradient clipping."""

    name: str = Field(
        default="AdamW",
        min_length=1,
        description="A class of `torch.optim`, one of `bitsandbytes` or `torchao` (`bitsandbytes:Lion`), or your own: "
        "`module:Class` or `file.py:Class`.",
    )
    kwargs: dict[str, Any] = Field(
        default={}, description="Options of the class that have no key here, checked against its signature."
    )
    lr: Positive = Field(default=1e-5, description="Peak learning rate.")
    betas: list[Probability] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="Adam's beta1 and beta2. Default: those of the class; of AdamW `[0.9, 0.999]`.",
    )
    eps: Positive | None = Field(default=None, description="Adam's epsilon. Default: that of the class; of AdamW `1e-8`.")
    weight_decay: PositiveOrZero = Field(default=0.0, description="Weight decay; of AdamW decoupled.")
    no_decay: bool = Field(
        default=False, description="Spare vectors (biases and the weights of norms) and embeddings the weight decay."
    )
    groups: Annotated[list[ParameterGroupTable], BeforeValidator(_as_list)] = Field(
        default=[], description="Parameters with rates of their own, by their names. The first that matches counts."
    )
    schedule: Schedule = Field(
        default="constant", description="Learning-rate schedule after the warm-up, as in Transformers."
    )
    schedule_kwargs: dict[str, Any] = Field(
        default={}, description="Options of the schedule, by the names of Transformers' function for it."
    )
    warmup_updates: CountOrZero = Field(default=0, description="Number of updates over which `lr` rises linearly from 0.")
    warmup_ratio: Share | None = Field(
        default=None, description="The same as a share of all updates, rounded up. Give one of the two."
    )
    master_weights: bool = Field(
        default=False,
        description="Keep a float32 copy of every trained weight of 16 bits, and update that: no update is rounded away.",
    )
    max_grad_norm: PositiveOrInf = Field(default=1.0, description="Norm to which gradients are clipped. `inf` turns it off.")

    @field_validator("schedule", mode="before")
    @classmethod
    def _is_of_updates(cls, schedule: Any) -> Any:
        if schedule in OF_A_NUMBER:
            raise ValueError(
                "it follows a number that is measured during training, and the schedule of a run follows its updates alone, "
                "so that a run that goes on is the same. Choose another"
            )
        return schedule

    @model_validator(mode="after")
    def _has_one_warmup(self) -> OptimizerTable:
        if self.warmup_updates and self.warmup_ratio is not None:
            raise ValueError(
                f"warmup_updates = {self.warmup_updates} and warmup_ratio = {self.warmup_ratio} are two lengths of the "
                "warm-up: give one of them"
            )
        return self

    @model_validator(mode="after")
    def _spares_something(self) -> OptimizerTable:
        if self.no_decay and not self.weight_decay:
            raise ValueError("no_decay = true with weight_decay = 0 would change nothing: set weight_decay")
        return self

    def num_warmup_updates(self, num_updates: int) -> int:
        """Return over how many updates the learning rate rises, in a run of `num_updates`."""
        return self.warmup_updates if self.warmup_ratio is None else math.ceil(self.warmup_ratio * num_updates)

    @property
    def depends_on_length(self) -> bool:
        """Whether the learning rate of an update depends on how long the run is."""
        return self.schedule not in WITHOUT_END or bool(self.warmup_ratio)
