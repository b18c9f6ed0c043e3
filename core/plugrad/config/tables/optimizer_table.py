"""`[optimizer]`: AdamW, the learning-rate schedule and gradient clipping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from plugrad.config.tables.number_types import CountOrZero, Positive, PositiveOrInf, PositiveOrZero
from plugrad.config.tables.table import Table

Probability = Annotated[float, Field(ge=0, lt=1)]


class OptimizerTable(Table):
    """`[optimizer]`: AdamW, the learning-rate schedule and gradient clipping."""

    lr: Positive = Field(default=1e-5, description="Peak learning rate.")
    betas: list[Probability] = Field(default=[0.9, 0.999], min_length=2, max_length=2, description="Adam's beta1 and beta2.")
    eps: Positive = Field(default=1e-8, description="Adam's epsilon.")
    weight_decay: PositiveOrZero = Field(default=0.0, description="Decoupled weight decay.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="Learning-rate schedule after the warm-up, as in Transformers."
    )
    warmup_updates: CountOrZero = Field(default=0, description="Number of updates over which `lr` rises linearly from 0.")
    max_grad_norm: PositiveOrInf = Field(default=1.0, description="Norm to which gradients are clipped. `inf` turns it off.")
