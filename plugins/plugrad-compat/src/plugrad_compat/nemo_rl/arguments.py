"""Arguments: what `forward` of a BaseLossFunction receives, decided by the names of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from plugrad import BatchLossInputs, ContractError, OptionError, PluginError
from plugrad_compat.adapters.signatures import Signature

FIELDS = {
    "embeddings": "embedding",
    "hidden_states": "hidden_states",
    "logits": "logits",
    "student_logits": "logits",
    "policy_logits": "logits",
    "predictions": "logits",
    "teacher_logits": "teacher_logits",
    "actions": "input_ids",
    "next_token_logprobs": "trainer_logprobs",
    "log_probs": "trainer_logprobs",
    "prev_logprobs": "old_logprobs",
    "generation_logprobs": "inference_logprobs",
    "reference_policy_logprobs": "ref_logprobs",
    "teacher_logprobs": "teacher_logprobs",
    "entropy": "entropy",
    "value_predictions": "values",
    "returns": "returns",
    "rewards": "reward",
    "advantages": "advantages",
}
"""The field of plugrad's inputs behind each name."""
COLUMNS = ("labels", "targets", "task_ids")
"""Names that are columns of the examples."""
CLASSES = ("labels", "targets")
"""Beside logits, these are the sampled tokens: the classes that the logits predict."""
WIDE = frozenset({"logits", "teacher_logits", "hidden_states"})
"""Fields that exist for one micro-batch at a time."""
OF_SEQUENCES = frozenset({"embedding", "reward", "group_ids", "member"})
GIVEN = frozenset({"trainer_logprobs", "inference_logprobs", "advantages", "group_ids", "member"})
"""Fields that no loss has to ask for."""
FIELDS_OF_PLUGRAD = GIVEN | WIDE | {*FIELDS.values(), "old_values"}
Source = str | int | float
"""A field of plugrad's inputs, a column of the examples, or a number that is the same for all."""
HANDED_OUT = ("model", "policy", "optimizer")
BY_AGAIN = (
    "A call of the model from a loss bypasses the wrappers of several ranks, which then hang or learn different weights; "
    "and backward() in a loss adds a gradient that no reduction has divided. Write a loss of plugrad's own with "
    '@loss(needs={"again"}, passes=2): inputs.sensitivity(total) is the gradient that an attack needs, and '
    "inputs.again(shift) a further pass with shifted embeddings."
)
"""What remains for a loss that wants the model."""


@dataclass(frozen=True)
class Arguments:
    """What `forward` receives: a field of plugrad's inputs, a column of the examples or a number, by argument."""

    target: str
    fields: Mapping[str, str]
    columns: Mapping[str, str]
    numbers: Mapping[str, int | float]

    @classmethod
    def of(cls, target: str, signature: Signature, chosen: Mapping[str, Source]) -> Arguments:
        """Decide by the names of the parameters; `chosen` names a source for some of them.

        Raises:
            PluginError: a parameter is unknown, or nothing can be handed out for it.
            OptionError: `chosen` names no parameter.
        """
        astray = [name for name in chosen if name not in signature.names and not signature.takes_any]
        if astray:
            raise OptionError(
                f"arguments.{astray[0]}: forward of {target!r} has no such parameter. It takes {', '.join(signature.names)}."
            )
        known: dict[str, Source] = {**FIELDS, **chosen}
        sources = {name: known[name] for name in (*signature.names, *chosen) if name in known}
        beside_logits = "logits" in sources.values()
        for name in (name for name in signature.names if name not in sources):
            if name in CLASSES and beside_logits:
                sources[name] = "input_ids"
            elif name in signature.needed:
                sources[name] = _column(target, name)
        named = {name: source for name, source in sources.items() if isinstance(source, str)}
        fields = {name: source for name, source in named.items() if source in FIELDS_OF_PLUGRAD}
        columns = {name: source for name, source in named.items() if name not in fields}
        numbers = {name: source for name, source in sources.items() if not isinstance(source, str)}
        found = cls(target, fields, columns, numbers)
        found._check_rows()
        return found

    @property
    def needs(self) -> frozenset[str]:
        """What the loss needs."""
        return frozenset(self.fields.values()) - GIVEN

    @property
    def wide(self) -> dict[str, str]:
        """The arguments that exist for one micro-batch at a time."""
        return {name: field for name, field in self.fields.items() if field in WIDE}

    @property
    def by_token(self) -> bool:
        """Whether `forward` sees one entry per counted token, and not one per sequence."""
        return any(field not in OF_SEQUENCES for field in self.fields.values())

    def given(self, inputs: BatchLossInputs) -> dict[str, Tensor]:
        """Return the arguments: the counted tokens of all rows below one another, or one entry per row."""
        mask = inputs.loss_mask

        def of_rows(value: Tensor) -> Tensor:
            return value.repeat_interleave(mask.sum(dim=1), dim=0) if self.by_token else value

        values = {name: (field, getattr(inputs, field)) for name, field in self.fields.items()}
        found = {name: of_rows(value) if field in OF_SEQUENCES else value[mask] for name, (field, value) in values.items()}
        found |= {name: of_rows(self._values(name, inputs)) for name in self.columns}
        return found | {name: of_rows(torch.full((len(mask),), n, device=mask.device)) for name, n in self.numbers.items()}

    def _values(self, name: str, inputs: BatchLossInputs) -> Tensor:
        column = self.columns[name]
        hint = f'Name another with kwargs.arguments = {{ {name} = "COLUMN" }}.'
        try:
            values = [example[column] for example in inputs.metadata or []]
        except KeyError as error:
            # The message says all: a cause would be shown as a traceback.
            told = getattr(error, "remedy", f"It has {', '.join(map(str, (inputs.metadata or [{}])[0]))}. {hint}")
            raise ContractError(
                f"{self.target!r} takes {name!r}, and the example has no column {column!r}. {told}"
            ) from None
        if not values:
            raise ContractError(f"{self.target!r} takes {name!r}, a column of the examples: pass metadata with {column!r}.")
        try:
            found: Tensor | None = torch.tensor(values, device=inputs.loss_mask.device)
        except (TypeError, ValueError, RuntimeError):
            found = None
        if found is None or found.ndim != 1:
            wrong = next((value for value in values if not isinstance(value, Real)), values[0])
            raise ContractError(
                f"{self.target!r} takes {name!r}, and the column {column!r} holds {wrong!r:.200}: a loss computes with "
                "numbers, one per example. Number the classes in a column of their own."
            )
        return found.to(inputs.advantages.dtype) if found.is_floating_point() else found

    def _check_rows(self) -> None:
        if not self.fields:
            raise PluginError(
                f"forward of {self.target!r} takes nothing that a model computes, such as {', '.join(list(FIELDS)[:3])}. "
                'Name it as a parameter, or say what one of its parameters is: kwargs.arguments = { x = "embedding" }.'
            )
        of_tokens = [name for name, field in self.fields.items() if field not in OF_SEQUENCES]
        embedded = [name for name, field in self.fields.items() if field == "embedding"]
        if embedded and of_tokens:
            raise PluginError(
                f"forward of {self.target!r} takes {embedded[0]!r}, one per sequence, and {of_tokens[0]!r}, one per token. "
                "plugrad cannot pass both: split it into two losses, and add them with two [[loss]] tables."
            )


def _column(target: str, name: str) -> str:
    if name in COLUMNS:
        return name
    if name in HANDED_OUT:
        raise PluginError(f"forward of {target!r} asks for {name!r}, which plugrad hands to no loss. {BY_AGAIN}")
    raise PluginError(
        f"forward of {target!r} asks for {name!r}. plugrad knows {', '.join((*FIELDS, *COLUMNS))}. Name a field of its own "
        f'inputs or a column of the examples: kwargs.arguments = {{ {name} = "COLUMN" }}.'
    )


def advised(call: Callable[[], Any]) -> Any:
    """Call a `forward`, and say what to write where the guide's samples are known to fail.

    Raises:
        ContractError: in place of such an error.
    """
    try:
        return call()
    except (AttributeError, RuntimeError) as error:
        advice = next((said for part, said in ADVICE.items() if part in str(error)), None)
        if advice is None:
            raise
        raise ContractError(f"{type(error).__name__} in forward: {error}. {advice}") from error


ADVICE = {
    "has no attribute 'entropy'": "A tensor has no entropy(). Write -(probs * log_probs).sum(dim=-1).mean(), or take the "
    "argument `entropy`, one per token.",
    "does not require grad": "The trial before a run is without gradient, and nothing in forward may differentiate. "
    f"{BY_AGAIN}",
}
"""What to write instead, by a part of the error."""
