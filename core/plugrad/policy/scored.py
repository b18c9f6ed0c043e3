"""What a pass through the policy is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plugrad.contracts.needs import TeacherDivergence
from plugrad.policy.blocks import EntropyMode


@dataclass(frozen=True)
class Wanted:
    """What a pass gives besides log-probs. Each costs what it says, so that only a plugin's need asks for it."""

    entropy: EntropyMode = "none"
    """Computed beside the log-probs, block by block."""
    logits: bool = False
    """tokens x vocabulary, which otherwise never exist."""
    hidden_states: bool = False
    """tokens x hidden size; they exist anyway, but a loss keeps them."""
    embedding: bool = False
    """One state a row."""
    values: bool = False
    """One number a token: a pass through the critic's layers if it has its own."""
    further: bool = False
    """It is not the first pass of a micro-batch: what its routers choose is not counted."""
    parameters: bool = False
    """Those of losses, which only an update reads."""
    divergences: tuple[TeacherDivergence, ...] = ()
    """From the teachers that come with the rows: their heads' products beside the policy's."""
    teacher_logits: bool = False
    """tokens x vocabulary, of the teacher. The policy's own pass does not give them."""

    @property
    def states(self) -> bool:
        """Whether the last hidden states leave the pass."""
        return self.hidden_states or self.embedding


class Rows(NamedTuple):
    """What one pass through the model reads."""

    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    counted: Bool[Tensor, "batch seq"]
    shift: Float[Tensor, "batch seq hidden"] | None = None
    """Is added to the embeddings of the tokens."""

    @property
    def given(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a policy is called with."""
        return self.input_ids, self.attention_mask, self.counted

    def one_by_one(self) -> list[Rows]:
        """Return each row alone, without its padding."""
        lengths = self.attention_mask.sum(dim=1).tolist()
        return [
            Rows(*(None if column is None else column[row : row + 1, :length] for column in self))  # type: ignore[arg-type]
            for row, length in enumerate(lengths)
        ]


class Scored(NamedTuple):
    """What a pass gives: zero where nothing counts, and None where it was not wanted."""

    logprobs: Float[Tensor, "batch seq"]
    """log pi of each counted token given the tokens before it, in nats."""
    entropy: Float[Tensor, "batch seq"] | None = None
    """Of the distribution that each counted token was drawn from, in nats."""
    logits: Float[Tensor, "batch seq vocab"] | None = None
    """Divided by the temperature: their log-softmax at a counted token is its log-prob."""
    hidden_states: Float[Tensor, "batch seq hidden"] | None = None
    """Entry t is the last hidden state that predicts the counted token t."""
    embedding: Float[Tensor, "batch hidden"] | None = None
    """The last hidden state of the last counted token, which has read it."""
    values: Float[Tensor, "batch seq"] | None = None
    """Entry t is the critic's value of the state in which the counted token t was chosen."""
    last_value: Float[Tensor, "batch"] | None = None
    """The critic's value of the state after the last counted token."""
    parameters: dict[str, Tensor] | None = None
    """Those of losses, by loss and name: see `handed_out`."""
    divergences: tuple[Float[Tensor, "batch seq"], ...] = ()
    """From its teacher at each counted token, in nats, in the order in which they were wanted."""


OF_ROWS = frozenset({"embedding", "last_value"})
"""What has no entry per token."""


def at_counted(values: Tensor, counted: Bool[Tensor, "batch seq"]) -> Tensor:
    """Return values of the counted tokens, `[tokens, ...]`, at their places `[batch, seq, ...]`, and zero elsewhere."""
    places = counted.clone()
    places[:, 0] = False
    return _placed(values, places)


def of_rows(values: Float[Tensor, "rows *axes"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch *axes"]:
    """Return values of the rows in which something counts at their places, and zero elsewhere."""
    return _placed(values, counted[:, 1:].any(dim=1))


def last_counted(counted: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """Return True at the last counted token of each row alone."""
    later = counted.flip(1).long().cumsum(dim=1).flip(1)
    last = counted & (later == 1)
    # The first token has no context and never counts.
    last[:, 0] = False
    return last


def joined(parts: Sequence[Scored], width: int) -> Scored:
    """Put what was scored in several passes below one another, zero beyond the end of each."""
    if len(parts) == 1 and parts[0].logprobs.shape[1] == width:
        return parts[0]

    def column(name: str) -> Any:
        values: list[Any] = [getattr(part, name) for part in parts]
        if values[0] is None:
            return None
        if isinstance(values[0], tuple):
            return tuple(torch.cat([_widened(v, width) for v in each]) for each in zip(*values, strict=True))
        return torch.cat([v if name in OF_ROWS else _widened(v, width) for v in values])

    return Scored(*map(column, Scored._fields))


def _placed(values: Tensor, places: Bool[Tensor, "..."]) -> Tensor:
    whole = values.new_zeros(*places.shape, *values.shape[1:])
    return whole.masked_scatter(places.reshape(*places.shape, *[1] * (values.ndim - 1)), values)


def _widened(values: Tensor, width: int) -> Tensor:
    missing = width - values.shape[1]
    return nn.functional.pad(values, (0, 0) * (values.ndim - 2) + (0, missing)) if missing else values
