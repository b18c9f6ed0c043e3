"""`[optimizer]`: AdamW, its schedule and clipping."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from plugrad.config.tables.table import Table

Probability = Annotated[float, Field(ge=0, lt=1)]


class OptimizerTable(Table):
    """`[optimizer]`: AdamW, its schedule and clipping."""

    lr: PositiveFloat = Field(default=1e-5, description="The peak learning rate.")
    betas: list[Probability] = Field(default=[0.9, 0.999], min_length=2, max_length=2, description="AdamW's two.")
    eps: PositiveFloat = Field(default=1e-8, description="AdamW's.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.0, description="AdamW's.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="Of the learning rate, after the warm-up: Transformers' own."
    )
    warmup_updates: Annotated[int, Field(ge=0)] = Field(default=0, description="Updates over which lr rises from 0.")
    max_grad_norm: PositiveFloat = Field(default=1.0, description="Gradients are clipped to this norm.")
