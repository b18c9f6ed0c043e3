"""The teachers of a run: which example each teaches, and what it makes of the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Rows, Scored, Wanted
from plugrad.policy.teacher_rows import scored_tokens, teacher_rows
from plugrad.policy.teachers import TeacherStates

ITSELF = None
"""In place of a model: the policy is its own teacher."""
Score = Callable[..., Scored]


@dataclass(frozen=True)
class Teachers:
    """The teachers by name. Each example has one."""

    models: Mapping[str, Policy | None]
    """Frozen, whole on every rank. `ITSELF` stands for the policy."""
    column: str | None = None
    """The examples' column that names their teacher; None if there is one for all."""

    @property
    def packs(self) -> bool:
        """Whether every frozen teacher skips padding."""
        return all(model.packs for model in self.models.values() if model is not ITSELF)

    def frozen_models(self) -> list[Any]:
        """Return the Transformers models."""
        return [model.model for model in self.models.values() if model is not ITSELF]

    def logprobs(self, micro_batch: MicroBatch, policy: Score) -> Float[Tensor, "batch seq"]:
        """Return what each row's teacher says of its counted tokens, in nats. Every rank calls it."""
        found = _zeros_like(micro_batch)
        for model, rows, chosen in self._passes(micro_batch):
            scored = (policy if model is ITSELF else model)(*rows.given).logprobs
            found = _placed(scored, rows, micro_batch, chosen, found.to(scored.dtype))
        return found

    def logits(self, micro_batch: MicroBatch, policy: Score, num_tokens: int) -> Float[Tensor, "batch seq vocab"]:
        """Return the logits of each row's teacher over the temperature, in columns for the policy's tokens.

        A token that the teacher does not have gets -inf. Every rank calls it.
        """
        found = _zeros_like(micro_batch).unsqueeze(2).expand(-1, -1, num_tokens)
        for model, rows, chosen in self._passes(micro_batch):
            scored = (policy if model is ITSELF else model)(*rows.given, Wanted(logits=True)).logits
            assert scored is not None
            fitting = pad(scored[..., :num_tokens], (0, max(0, num_tokens - scored.shape[-1])), value=-torch.inf)
            found = _placed(fitting, rows, micro_batch, chosen, found.to(scored.dtype))
        return found

    def states(self, micro_batch: MicroBatch, policy: Score, own: Policy) -> list[TeacherStates]:
        """Return what the divergence from each row's teacher follows from. Every rank calls it.

        Args:
            micro_batch: the rows.
            policy: scores rows, for a policy that is its own teacher.
            own: the same without what wraps it.
        """
        asked = Wanted(hidden_states=own.head is not None, logits=own.head is None)
        found = []
        for model, rows, chosen in self._passes(micro_batch):
            taught = _taught(micro_batch, chosen)
            if model is not ITSELF:
                found.append(model.as_teacher(rows, taught))
                continue
            scored, places = policy(*rows.given, asked), scored_tokens(rows.counted)
            hidden = None if scored.hidden_states is None else scored.hidden_states[places]
            logits = None if scored.logits is None else scored.logits[places] * own.temperature
            if chosen:
                found.append(TeacherStates(taught, hidden, logits=logits))
        return found

    def _passes(self, micro_batch: MicroBatch) -> Iterator[tuple[Any, Rows, Sequence[int]]]:
        """Yield each model that has rows to read, with them; the policy itself always, as it may be sharded."""
        examples = micro_batch.metadata if micro_batch.rows else []
        names = [next(iter(self.models)) if self.column is None else example.get(self.column) for example in examples]
        for name, model in self.models.items():
            chosen = [row for row, own in enumerate(names) if own == name]
            if chosen:
                yield model, teacher_rows(micro_batch, chosen), chosen
            elif model is ITSELF:
                rows = teacher_rows(micro_batch, range(len(micro_batch.loss_mask)))
                yield model, rows._replace(counted=torch.zeros_like(rows.counted)), chosen


def _taught(micro_batch: MicroBatch, chosen: Sequence[int]) -> Tensor:
    taught = torch.zeros(len(micro_batch.loss_mask), dtype=torch.bool, device=micro_batch.loss_mask.device)
    taught[list(chosen)] = True
    return taught


def _zeros_like(micro_batch: MicroBatch) -> Float[Tensor, "batch seq"]:
    return torch.zeros_like(micro_batch.advantages)


def _placed(values: Tensor, rows: Rows, micro_batch: MicroBatch, chosen: Sequence[int], into: Tensor) -> Tensor:
    """Put values of a teacher's rows at the same tokens of the micro-batch."""
    places = scored_tokens(micro_batch.loss_mask) & _taught(micro_batch, chosen).unsqueeze(1)
    own = values[scored_tokens(rows.counted)]
    return into.masked_scatter(places.reshape(*places.shape, *[1] * (into.ndim - 2)), own)
