"""`[model.lora]`: train small matrices beside the policy's frozen ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from plugrad.config.tables.number_types import Count, Positive, Share
from plugrad.config.tables.table import Table
from plugrad.paths import absolute_folder


class LoraTable(Table):
    """`[model.lora]`: LoRA, through PEFT. It may be empty. It needs `pip install "plugrad[lora]"`."""

    r: Count | None = Field(default=None, description="Rank of the adapters. Default: 16.")
    alpha: Positive | None = Field(
        default=None, description="The product of the matrices is multiplied by `alpha / r`. Default: twice `r`."
    )
    dropout: Share | None = Field(
        default=None,
        description="Dropout of the adapters' inputs in passes with gradient; never where log-probs are scored. Default: 0.",
    )
    target_modules: list[str] | str | None = Field(
        default=None,
        description="The layers that get an adapter: names or ends of names, or a regular expression for whole names. "
        "Default: all linear layers but the head.",
    )
    init: Literal["default", "gaussian", "orthogonal"] | None = Field(
        default=None, description="How the adapters begin. Default: `default`, PEFT's, at which the policy is the base."
    )
    rslora: bool | None = Field(default=None, description="Multiply by `alpha / sqrt(r)` instead. Default: false.")
    dora: bool | None = Field(
        default=None, description="Train the magnitude of each matrix apart from its direction. Default: false."
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Further options of PEFT's `LoraConfig`, by its names.")
    adapter: str | None = Field(
        default=None,
        description="A folder with an adapter to go on from, in PEFT's format. Its configuration is used: keys beside this "
        "one must say the same.",
    )

    @property
    def drops(self) -> bool:
        """Whether the table asks for dropout."""
        return bool(self.dropout)

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with an absolute `adapter`."""
        return self.model_copy(update={"adapter": self.adapter and absolute_folder(self.adapter, folders)})
