"""`[evaluation]`: completions of held-out examples, and the sets of them that are reported by name."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from plugrad.config.tables.component_tables import EnvironmentTable
from plugrad.config.tables.number_types import Count, CountOrZero, Finite, Temperature
from plugrad.config.tables.table import Table
from plugrad.contracts.where import ColumnValue
from plugrad.shown import shown

PREFIX = "eval"
NAME = re.compile(r"[A-Za-z0-9_-]+")
ALWAYS, OF_SEVERAL = ("reward", "completion_length"), ("pass_at_k", "mean_at_k", "maj_at_k")
"""What is reported of held-out examples, and what else where each has several completions."""
OF_THE_ENVIRONMENT = "environment"
"""Before the names of what the environment notes of completions."""
RESERVED = (*ALWAYS, *OF_SEVERAL, OF_THE_ENVIRONMENT)
"""What no set is called."""


class HeldOutSetTable(Table):
    """`[evaluation.sets.NAME]`: held-out examples that are also reported on their own, under `eval/NAME/`."""

    where: dict[str, ColumnValue | Annotated[list[ColumnValue], Field(min_length=1)]] = Field(
        default={},
        description="The examples of the set, by the values of their columns, such as `{ level = 5 }`. A list means any of "
        "its values. Default: all of the set's own environment; without one, it is required.",
    )
    num_examples: Count | None = Field(
        default=None,
        description="Maximum number of its examples, always the same ones. Default: `evaluation.num_examples`.",
    )
    environment: EnvironmentTable | None = Field(
        default=None,
        description="Where the examples of the set come from, and what scores them. Default: the run's environment.",
    )

    @model_validator(mode="after")
    def _says_what_it_holds(self) -> HeldOutSetTable:
        if not self.where and self.environment is None:
            raise ValueError(
                "it would be all held-out examples once more. Choose some with where, such as where = { level = 5 }, or "
                'give it an environment of its own: environment = { name = "...", kwargs = { ... } }'
            )
        return self


def _bool_or_list(value: Any) -> Any:
    if not isinstance(value, bool | list):
        raise ValueError('write true, false or a list such as ["reward", "entropy"]')
    return value


class EvaluationTable(Table):
    """`[evaluation]`: completions of held-out examples."""

    every_steps: CountOrZero = Field(
        default=0,
        description="Steps between evaluations. Also runs before the first and after the last step. 0 turns it off.",
    )
    num_examples: Count = Field(default=256, description="Maximum number of held-out examples, always the same ones.")
    rollouts_per_example: Count = Field(
        default=1, description="Completions per example. With several, pass@k, mean@k and maj@k are reported."
    )
    temperature: Temperature | None = Field(
        default=None, description="Sampling temperature. Default: greedy completions, of which each example has one."
    )
    pass_reward: Finite = Field(default=1.0, description="The lowest reward that counts as a success, for pass@k.")
    stop_at_reward: Finite | None = Field(
        default=None, description="Stop the run once the mean held-out reward reaches this value."
    )
    metrics: Annotated[bool | list[str], BeforeValidator(_bool_or_list)] = Field(
        default=True,
        description="Metrics of the run that also run on held-out completions: all that can (true), none (false), or a list "
        "of names as they stand in `metrics.jsonl`.",
    )
    sets: dict[str, HeldOutSetTable] = Field(
        default_factory=dict, description="Held-out examples by name that are also reported on their own."
    )

    @field_validator("sets", mode="before")
    @classmethod
    def _names_of_sets(cls, sets: Any) -> Any:
        for name in sets if isinstance(sets, dict) else ():
            if not NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(
                    f"{shown(name)} cannot be the name of a set: its numbers are reported under {PREFIX}/NAME/. Use "
                    f"letters, digits, _ and -, and none of {', '.join(RESERVED)}"
                )
        return sets

    @model_validator(mode="after")
    def _check_stop(self) -> EvaluationTable:
        if self.stop_at_reward is not None and not self.every_steps:
            raise ValueError("stop_at_reward needs evaluations: set every_steps")
        return self

    @model_validator(mode="after")
    def _check_sampling(self) -> EvaluationTable:
        if self.rollouts_per_example > 1 and self.temperature is None:
            raise ValueError(
                f"rollouts_per_example = {self.rollouts_per_example} needs a temperature, such as 0.6: greedy completions "
                "of an example are all the same"
            )
        return self

    @property
    def ks(self) -> list[int]:
        """The k of which pass@k is reported: powers of 2, and the number of completions of an example."""
        num = self.rollouts_per_example
        return [] if num == 1 else sorted({num, *(2**power for power in range(num.bit_length()))})

    @property
    def number_names(self) -> list[str]:
        """The names of the numbers that an evaluation reports, but for those of metrics; none if there is no evaluation."""
        prefixes = [PREFIX, *(f"{PREFIX}/{name}" for name in self.sets)] if self.every_steps else []
        own = [*ALWAYS, *(f"pass_at_k/{k}" for k in self.ks)]
        own += [f"{name}/{self.rollouts_per_example}" for name in OF_SEVERAL[1:] if self.ks]
        return [f"{prefix}/{name}" for prefix in prefixes for name in own]

    def may_report(self, name: str) -> bool:
        """Return whether an evaluation reports a number of this name, or may: nobody knows yet what metrics report."""
        if name in self.number_names:
            return True
        parts = name.split("/")[1:]
        own = parts[1:] if parts[0] in self.sets else parts
        return bool(self.every_steps) and len(own) > 1 and own[0] not in OF_SEVERAL[1:]
