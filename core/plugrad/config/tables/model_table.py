"""`[model]` and the frozen models beside it: `[model.reference]`, `[model.teacher]` and `[model.teachers.NAME]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from plugrad.config.tables.lora_table import LoraTable
from plugrad.config.tables.table import Table
from plugrad.paths import absolute_folder


class FrozenModelTable(Table):
    """`[model.reference]`, or a teacher: a frozen model that scores the sampled tokens."""

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


class TeacherTable(Table):
    """`[model.teacher]`, or one of `[model.teachers.NAME]`: a model that teaches. Give `name` or `policy = true`."""

    name: str | None = Field(default=None, description="A hub id or a local folder. Its tokenizer is the policy's.")
    policy: bool = Field(
        default=False,
        description="The policy is its own teacher, as it is when it is trained. It reads the column `teacher_prompt` in "
        "place of the prompt, so every example needs one.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] | None = Field(
        default=None, description="Data type of the weights. Default: the policy's."
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python code in the model's folder, for a model that Transformers does not know. Read it first.",
    )

    @model_validator(mode="after")
    def _one_model(self) -> TeacherTable:
        if (self.name is None) == (not self.policy):
            raise ValueError("give either `name` (a hub id or folder) or `policy = true` (the policy is its own teacher)")
        # A resolved run file writes defaults.
        of_name = [key for key in ("dtype", "trust_remote_code") if self.policy and getattr(self, key)]
        if of_name:
            raise ValueError(
                f"{' and '.join(of_name)} with `policy = true` would change nothing: the policy teaches as [model] has "
                f"loaded it. Set {' and '.join(f'model.{key}' for key in of_name)}, or give the teacher a model (name)"
            )
        return self

    @property
    def frozen(self) -> FrozenModelTable | None:
        """The model to load; None if it is the policy itself."""
        if self.name is None:
            return None
        return FrozenModelTable(name=self.name, dtype=self.dtype, trust_remote_code=self.trust_remote_code)

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with an absolute `name` if it names a folder. A hub id stays."""
        return self.model_copy(update={"name": self.name and absolute_folder(self.name, folders)})


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
        description="Data type in which the weights are stored; `auto` is the folder's. With `bfloat16`, small updates "
        "round to zero without `optimizer.master_weights`.",
    )
    compute_dtype: Literal["float32", "bfloat16"] | None = Field(
        default=None,
        description="Data type in which all models compute; norms and sums keep float32. Default: `dtype`, or what "
        "Accelerate's configuration sets as mixed precision.",
    )
    attn_implementation: str | None = Field(
        default=None, description="Attention implementation, passed to Transformers. Default: its choice."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )
    compile: bool = Field(
        default=False,
        description="Compile the policy's layers with `torch.compile` for training and scoring, not for sampling. The first "
        "steps take minutes longer, and results are the same up to rounding.",
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python code in the model's folder, for a model that Transformers does not know. Read it first.",
    )
    resize_embeddings: bool = Field(
        default=False,
        description="Add rows to the embedding where the tokenizer has more tokens. Also in the reference and the teacher.",
    )
    quantization: Literal["nf4"] | None = Field(
        default=None,
        description="Store the matrices of the base in 4 bits, through bitsandbytes (`plugrad[qlora]`). For `[model.lora]`.",
    )
    lora: LoraTable | None = Field(
        default=None, description="Train adapters beside the frozen weights. Default: train all weights."
    )
    reference: FrozenModelTable | None = Field(
        default=None, description="The model for losses that need `ref_logprobs`. Default: the policy as it began."
    )
    teacher: TeacherTable | None = Field(
        default=None,
        description="The model for losses that need a teacher: its log-probs, logits, or the divergence from it.",
    )
    teachers: dict[str, TeacherTable] = Field(
        default_factory=dict, description="Several teachers by name. Each example names its own in `teacher_column`."
    )
    teacher_column: str = Field(default="teacher", description="The examples' column that names one of the `teachers`.")

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
    def _computes_in_what_it_can(self) -> ModelTable:
        if self.compute_dtype == "float32" and self.dtype != "float32":
            raise ValueError(
                f'compute_dtype = "float32" with dtype = "{self.dtype}": weights are computed with as they are stored, or '
                'in bfloat16. Set dtype = "float32"'
            )
        if self.compute_dtype == "bfloat16" and self.dtype == "float64":
            raise ValueError(
                'compute_dtype = "bfloat16" with dtype = "float64": autocast leaves float64 as it is. Set dtype = "float32"'
            )
        return self

    @model_validator(mode="after")
    def _one_model(self) -> ModelTable:
        if (self.name is None) == (self.from_scratch is None):
            raise ValueError("give either `name` (a hub id or folder) or a table [model.from_scratch], not both")
        return self

    @model_validator(mode="after")
    def _one_way_to_teach(self) -> ModelTable:
        if self.teacher is not None and self.teachers:
            raise ValueError("give either [model.teacher], which teaches all examples, or [model.teachers.NAME], not both")
        return self

    @model_validator(mode="after")
    def _adapter_of_a_trained_base(self) -> ModelTable:
        if self.from_scratch is not None and self.lora is not None and self.lora.adapter is not None:
            raise ValueError(
                "[model.lora] adapter was trained beside the weights of its own base, and those of [model.from_scratch] are "
                "new. Give the base as `name`: a run that began from scratch has saved it in model/base"
            )
        return self

    @model_validator(mode="after")
    def _can_be_quantised(self) -> ModelTable:
        if self.quantization is None:
            return self
        asked = f'quantization = "{self.quantization}"'
        if self.lora is None:
            raise ValueError(f"{asked} without [model.lora]: weights of 4 bits cannot be trained. Add the table")
        if self.from_scratch is not None:
            raise ValueError(f"{asked} with [model.from_scratch]: weights are quantised as they are read. Give a `name`")
        if self.resize_embeddings:
            raise ValueError(
                f"{asked} with resize_embeddings = true: the base would have to be saved, and its weights are in 4 bits. "
                "Resize and save the model first"
            )
        if self.dtype == "float64":
            raise ValueError(f'{asked} with dtype = "float64": it rounds to four bits. Set dtype = "float32" or "bfloat16"')
        return self

    @property
    def saved_by_run(self) -> str | None:
        """The folder of a run's model that this one goes on from, if it does: its adapter's, or its own."""
        return (self.lora.adapter if self.lora is not None else None) or self.name

    @property
    def all_teachers(self) -> dict[str, TeacherTable]:
        """The teachers by name. One that teaches all examples is called `teacher`."""
        return self.teachers if self.teacher is None else {"teacher": self.teacher}

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table and its frozen models with absolute names where they name folders. A hub id stays."""
        return self.model_copy(
            update={
                "name": self.name and absolute_folder(self.name, folders),
                "lora": self.lora and self.lora.with_absolute_paths(folders),
                "reference": self.reference and self.reference.with_absolute_paths(folders),
                "teacher": self.teacher and self.teacher.with_absolute_paths(folders),
                "teachers": {name: table.with_absolute_paths(folders) for name, table in self.teachers.items()},
            }
        )
