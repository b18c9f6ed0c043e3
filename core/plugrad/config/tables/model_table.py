"""`[model]`, `[model.reference]` and `[model.teacher]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from plugrad.config.tables.table import Table
from plugrad.paths import absolute_folder


class FrozenModelTable(Table):
    """`[model.reference]` and `[model.teacher]`: a frozen model that scores the sampled tokens."""

    name: str = Field(description="A hub id or a local folder.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] | None = Field(
        default=None, description="Data type of the weights. Default: the policy's."
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python code in the model's folder, for a model that Transformers does not know. Read it first.",
    )

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with an absolute `name` if it names a folder. A hub id stays."""
        return self.model_copy(update={"name": absolute_folder(self.name, folders)})


class ModelTable(Table):
    """`[model]`: the policy. Give `name` or `[model.from_scratch]`."""

    name: str | None = Field(default=None, description="Any causal LM that Transformers loads: a hub id or a local folder.")
    from_scratch: dict[str, Any] | None = Field(
        default=None,
        description="Build a new model from `model_type` and the fields of its Transformers configuration. "
        "Its character tokenizer covers the environment's texts.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = Field(
        default="float32",
        description="Data type of the weights; `auto` is the folder's. With `bfloat16`, small updates round to zero.",
    )
    attn_implementation: str | None = Field(
        default=None, description="Attention implementation, passed to Transformers. Default: its choice."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python code in the model's folder, for a model that Transformers does not know. Read it first.",
    )
    resize_embeddings: bool = Field(
        default=False,
        description="Add rows to the embedding where the tokenizer has more tokens. Also in the reference and the teacher.",
    )
    reference: FrozenModelTable | None = Field(
        default=None, description="The model for losses that need `ref_logprobs`. Default: a copy of the initial policy."
    )
    teacher: FrozenModelTable | None = Field(default=None, description="The model for losses that use `teacher_logprobs`.")

    @field_validator("dtype", mode="before")
    @classmethod
    def _not_float16(cls, dtype: Any) -> Any:
        if dtype == "float16":
            raise ValueError(
                "a policy of float16 weights diverges, because the squared gradients that Adam keeps fall below float16's "
                'smallest number. Write "bfloat16" or "float32"; a reference or a teacher may have float16'
            )
        return dtype

    @model_validator(mode="after")
    def _one_model(self) -> ModelTable:
        if (self.name is None) == (self.from_scratch is None):
            raise ValueError("give either `name` (a hub id or folder) or a table [model.from_scratch], not both")
        return self

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table and its frozen models with absolute names where they name folders. A hub id stays."""
        return self.model_copy(
            update={
                "name": self.name and absolute_folder(self.name, folders),
                "reference": self.reference and self.reference.with_absolute_paths(folders),
                "teacher": self.teacher and self.teacher.with_absolute_paths(folders),
            }
        )
