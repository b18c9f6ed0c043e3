"""`[rollout]`: how completions are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from plugrad.config.engine_kinds import ENGINES, EngineKind, engine_named, engine_names, engines_where
from plugrad.config.one_of import OneOf
from plugrad.config.tables.number_types import Count, CountOrZero, PositiveOrInf, Seconds, Temperature
from plugrad.config.tables.server_table import ServerTable
from plugrad.config.tables.table import Table
from plugrad.config.tables.vllm_table import VllmTable

MOST_ROLLOUTS = 10_000_000
"""A step holds all its rollouts in memory, each with its tokens and log-probs."""
OURS = ("conversation", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "return_tensors")
"""Arguments of `apply_chat_template` that plugrad sets itself."""
ToolFormat = Literal["auto", "hermes", "llama", "json"]
"""See `plugrad.rollout.turns.tool_formats.FORMATS`."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class RolloutTable(Table):
    """`[rollout]`: how completions are sampled. Counts are over all ranks."""

    engine: Annotated[str, OneOf(engine_names)] = Field(
        default="transformers",
        description=f"Where completions come from. {'; '.join(f'`{kind.name}`: {kind.summary}' for kind in ENGINES)}.",
    )
    prompts_per_step: Count = Field(default=32, description="Number of prompts per step.")
    rollouts_per_example: Count = Field(default=8, description="Completions per prompt: the size of a group.")
    max_new_tokens: Count = Field(
        default=64, description="Maximum length of a completion in tokens, including the end-of-sequence token."
    )
    temperature: Temperature = Field(
        default=1.0, description="Sampling temperature: samples come from softmax(logits / temperature)."
    )
    max_turns: Count = Field(
        default=16, description="Most replies of the policy in a rollout, where the environment plays several turns."
    )
    max_tokens: Count | None = Field(
        default=None,
        description="Most tokens of a rollout of several turns, in all its rows: prompts, replies and what the environment "
        "writes. Default: no limit beside those of each row, `tokens_per_micro_batch` and the model's context.",
    )
    play_seconds: Seconds = Field(
        default=120.0,
        description="How long the environment's part of a rollout of several turns may take. One that takes longer is given "
        "up.",
    )
    tool_format: ToolFormat = Field(
        default="auto",
        description='How the policy writes calls of tools. `hermes`: `<tool_call>{"name": ..., "arguments": '
        '{...}}</tool_call>`, as Qwen does; `llama`: `{"name": ..., "parameters": {...}}` as the whole reply; `json`: '
        '`{"name": ..., "arguments": {...}}` as the whole reply or in fenced blocks; `auto`: as the tokenizer\'s '
        "`response_template` says, or else its chat template.",
    )
    generation_batch_size: Count = Field(default=512, description="Number of sequences to generate at once.")
    max_staleness: CountOrZero = Field(
        default=0,
        description="How many steps the sampling policy may lag behind. 0 samples each batch when it is needed; 1 samples "
        "the next batch while training on this one.",
    )
    parity_every_steps: Count = Field(
        default=20,
        description="Steps between parity checks, in which the trainer scores a few of the engine's completions. They also "
        "run before the first step and after the first update.",
    )
    parity_bound: PositiveOrInf | None = Field(
        default=None,
        description="Mean difference between the engine's and the trainer's log-probs, in nats, above which the run stops. "
        "Default: 0.001, or 0.1 for 16-bit weights.",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default={},
        description="Options of the chat template, for prompts that are chat messages, for example "
        "`{ enable_thinking = false }`.",
    )
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list)] = Field(
        default=[],
        description="Strings that end a sampled completion, such as `</answer>`. It keeps the string, and its tokens stay "
        "as they were sampled.",
    )
    skip_special_tokens: bool = Field(
        default=False,
        description="Whether special tokens are left out of the text that the environment receives. End-of-sequence and "
        "padding at its end always are.",
    )
    drop_long_prompts: bool = Field(
        default=False,
        description="Whether to leave out examples whose prompts do not fit the model's context or "
        "`tokens_per_micro_batch`, instead of refusing the run.",
    )
    vllm: VllmTable = VllmTable()
    server: ServerTable = ServerTable()

    @property
    def engine_kind(self) -> EngineKind:
        """The facts about the engine."""
        return engine_named(self.engine)

    @property
    def ranks_per_engine(self) -> int:
        """The number of neighbouring ranks that share one engine."""
        key = self.engine_kind.ranks_per_engine
        return 1 if key is None else int(attrgetter(key)(self))

    def own_table(self, kind: EngineKind) -> Table | None:
        """Return the engine's own table, or None if it has none."""
        return None if kind.table is None else getattr(self, kind.table)

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with the paths in the engines' tables absolute."""
        tables = {kind.table: self.own_table(kind) for kind in ENGINES if kind.table}
        return self.model_copy(update={key: table and table.with_absolute_paths(folders) for key, table in tables.items()})

    @field_validator("chat_template_kwargs")
    @classmethod
    def _check_template_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(options.keys() & set(OURS)):
            raise ValueError(
                f"{', '.join(taken)} cannot be set: plugrad itself opens a turn of the assistant, or continues a last "
                "message of the assistant. Set only what the chat template reads"
            )
        return options

    @model_validator(mode="after")
    def _check_amount(self) -> RolloutTable:
        if self.prompts_per_step * self.rollouts_per_example > MOST_ROLLOUTS:
            raise ValueError(
                f"prompts_per_step = {self.prompts_per_step} and rollouts_per_example = {self.rollouts_per_example} are "
                f"more than {MOST_ROLLOUTS:,} rollouts a step, which no memory holds. Lower one of the two"
            )
        return self

    @model_validator(mode="after")
    def _check_staleness(self) -> RolloutTable:
        if not self.max_staleness:
            return self
        kind = self.engine_kind
        if not kind.has_own_weights:
            others = engines_where(lambda other: other.has_own_weights)
            raise ValueError(
                f'max_staleness = {self.max_staleness} samples while the policy trains, and "{kind.name}" has no '
                f"weights of its own: set engine = {others}, or max_staleness = 0"
            )
        if self.ranks_per_engine > 1:
            others = engines_where(lambda other: other.has_own_weights and other.ranks_per_engine is None)
            raise ValueError(
                f"max_staleness > 0 needs {kind.ranks_per_engine} = 1: ranks that share an engine must make the same "
                f"request at the same time. Set engine = {others}, or reset one of the two keys"
            )
        return self
