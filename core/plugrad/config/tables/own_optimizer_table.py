"""`[loss.optimizer]`: how the parameters that a loss owns are updated."""

from __future__ import annotations

from pydantic import Field

from plugrad.config.tables.number_types import Positive, PositiveOrZero
from plugrad.config.tables.table import Table


class OwnOptimizerTable(Table):
    """`[loss.optimizer]`: for a loss with parameters of its own. Everything else is as in `[optimizer]`."""

    lr: Positive | None = Field(
        default=None, description="Peak learning rate of the loss's parameters. Default: `optimizer.lr`."
    )
    weight_decay: PositiveOrZero = Field(default=0.0, description="Decoupled weight decay of the loss's parameters.")
