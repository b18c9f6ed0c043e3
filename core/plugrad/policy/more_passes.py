"""The passes of one micro-batch through the policy: the first, and those that losses ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from plugrad.contracts.loss import AnotherPass
from plugrad.errors import ContractError
from plugrad.host.no_backward import not_noticed
from plugrad.policy.scored import Scored, Wanted
from plugrad.policy.shifts import Shift
from plugrad.policy.teachers import TeacherStates


@dataclass
class MorePasses:
    """Every rank makes the same passes in the same order, whatever its losses do: `complete` makes up for the others.

    Every pass is one call of the wrapped policy, and its shift a leaf: the derivative with respect to the embeddings is that
    with respect to the shifts of all passes so far.
    """

    policy: Callable[..., Scored]
    """Wrapped, where there are several ranks."""
    input_ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    counted: Bool[Tensor, "batch seq"]
    further: Wanted
    """What each pass but the first gives."""
    num: int = 1
    """With the first."""
    width: int = 0
    """Of an embedding."""
    dtype: torch.dtype = torch.float32
    is_sharded: bool = False
    """Whether derivatives with respect to the embeddings gather weights, and so take part in the common order."""
    _shifts: list[Tensor] = field(default_factory=list)
    _scored: list[Scored] = field(default_factory=list)
    _sensed: int = 0
    _due: int = 1

    def first(self, wanted: Wanted, teachers: Sequence[TeacherStates] = ()) -> Scored:
        """Run the policy as it is."""
        if self.num == 1:
            return self.policy(self.input_ids, self.attention_mask, self.counted, wanted, teachers)
        batch, seq = self.input_ids.shape
        return self._pass(
            torch.zeros(batch, seq, self.width, dtype=self.dtype, device=self.input_ids.device), wanted, teachers
        )

    def again(self, shift: Float[Tensor, "batch seq hidden"]) -> AnotherPass:
        """Run it with shifted embeddings. In padding nothing is shifted."""
        if len(self._scored) == self.num:
            raise ContractError(
                "inputs.again was called more often than the losses of the run declare, by an extension. Call it in a loss "
                "alone."
            )
        if self.is_sharded and self._sensed < len(self._scored):
            self.sensitivity(self._nothing(self._scored))
        by = torch.where(self.attention_mask.unsqueeze(2), shift.detach(), 0.0).to(self.dtype)
        found = self._pass(by, self.further)
        return AnotherPass(found.logprobs, found.entropy)

    def sensitivity(self, total: Float[Tensor, ""]) -> Float[Tensor, "batch seq hidden"]:
        """Return d total / d embeddings. It reaches no weight."""
        if self.is_sharded:
            # The same modules gather their weights, whatever the total is made of.
            total = total + self._nothing(self._scored)
        with not_noticed():
            found = torch.autograd.grad(total, self._shifts, retain_graph=True, allow_unused=True)
        self._sensed = len(self._scored)
        reached = [derivative for derivative in found if derivative is not None]
        return torch.stack(reached).sum(dim=0) if reached else torch.zeros_like(self._shifts[0])

    def complete(self, number: int) -> None:
        """Make those of a loss's `number` further passes that it did not ask for, once it has been called or left out."""
        self._due += number
        while len(self._scored) < self._due and self.num > 1:
            self.again(torch.zeros_like(self._shifts[0]))

    def nothing(self) -> Tensor | float:
        """Return 0 with the graph of all further passes: those that no loss used have their backward pass too."""
        return self._nothing(self._scored[1:]) if self.num > 1 else 0.0

    def outputs(self) -> Iterator[Tensor]:
        """Yield what the further passes gave."""
        yield from (value for scored in self._scored[1:] for value in scored if isinstance(value, Tensor))

    def _pass(self, by: Tensor, wanted: Wanted, teachers: Sequence[TeacherStates] = ()) -> Scored:
        is_last = len(self._scored) == self.num - 1
        earlier = self._nothing(self._scored) if self._scored and _looks_for_unused(self.policy) else None
        self._shifts.append(by.requires_grad_())
        with nullcontext() if is_last else _unsynced(self.policy):
            rows = (self.input_ids, self.attention_mask, self.counted)
            self._scored.append(self.policy(*rows, wanted, teachers, Shift(by, earlier)))
        return self._scored[-1]

    @staticmethod
    def _nothing(passes: list[Scored]) -> Tensor:
        return torch.stack([scored.logprobs.sum() for scored in passes]).sum() * 0


def _unsynced(policy: Any) -> AbstractContextManager[None]:
    """Return a context in which DDP expects no backward pass, and after which it sends no buffers: passes may keep them."""
    return policy.no_sync() if isinstance(policy, DistributedDataParallel) else nullcontext()


def _looks_for_unused(policy: Any) -> bool:
    return isinstance(policy, DistributedDataParallel) and bool(policy.find_unused_parameters)
