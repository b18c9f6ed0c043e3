"""Further passes through the policy, as a loss asks for them: counted, checked, and for the rows that it sees."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad.contracts.checked_fields import described
from plugrad.contracts.loss import AnotherPass, BatchLossInputs
from plugrad.errors import ContractError
from plugrad.host.no_backward import not_noticed

WHY_COUNTED = "Every rank makes the same number of passes, and a micro-batch holds only so many tokens that all of them fit."


def counted(owner: str, inputs: BatchLossInputs, passes: int) -> BatchLossInputs:
    """Return the inputs of one call of a loss, which may ask for `passes` - 1 further passes."""
    if inputs.again is None:
        return inputs
    allowed = _Counted(owner, inputs, passes)
    return replace(inputs, again=allowed.again, sensitivity=allowed.sensitivity)


def of_rows(inputs: BatchLossInputs, chosen: Int[Tensor, "rows"]) -> BatchLossInputs:
    """Return the inputs with passes that take and give these rows alone. The others are not shifted."""
    again, sensitivity, num_rows = inputs.again, inputs.sensitivity, len(inputs.loss_mask)
    if again is None:
        return inputs

    def again_of_rows(shift: Tensor) -> AnotherPass:
        whole = shift.new_zeros(num_rows, *shift.shape[1:]).index_copy(0, chosen, shift)
        logprobs, entropy = again(whole)
        return AnotherPass(logprobs[chosen], None if entropy is None else entropy[chosen])

    def sensitivity_of_rows(total: Tensor) -> Tensor:
        assert sensitivity is not None
        return sensitivity(total)[chosen]

    return replace(inputs, again=again_of_rows, sensitivity=None if sensitivity is None else sensitivity_of_rows)


class _Counted:
    """What a loss calls.

    Raises:
        ContractError: it calls too often, or with something else than a shift or a total.
    """

    def __init__(self, owner: str, inputs: BatchLossInputs, passes: int) -> None:
        self._owner, self._inputs, self._passes = owner, inputs, passes
        self._made, self._sensed = 1, 0
        self._like: Tensor | None = None

    def again(self, shift: Float[Tensor, "batch seq hidden"]) -> AnotherPass:
        """Return what the policy gives with shifted embeddings."""
        if self._made == self._passes:
            raise ContractError(
                f"{self._owner} calls inputs.again {self._times(self._made)} and declares passes={self._passes}, of which "
                "the first is one.",
                why=WHY_COUNTED,
                fix=f"Write @loss(needs={{'again'}}, passes={self._made + 1}), or call it less often.",
            )
        self._check_shift(shift)
        self._made += 1
        assert self._inputs.again is not None
        # Under no_grad, ranks would wait for gradients that never come.
        with torch.enable_grad():
            logprobs, entropy = self._inputs.again(shift.detach())
        return AnotherPass(logprobs, None if self._inputs.entropy is None else entropy)

    def sensitivity(self, total: Float[Tensor, ""]) -> Float[Tensor, "batch seq hidden"]:
        """Return the derivative of `total` with respect to the embeddings of the tokens."""
        if self._inputs.sensitivity is None:
            raise ContractError(
                f"{self._owner} calls inputs.sensitivity, which is None: pass BatchLossInputs(again=..., sensitivity=...)."
            )
        self._check_turn()
        if not isinstance(total, Tensor) or total.ndim or not total.requires_grad:
            lacks = ", without gradient" if isinstance(total, Tensor) and not total.requires_grad else ""
            raise ContractError(
                f"{self._owner} calls inputs.sensitivity({described(total)}{lacks}); it takes a scalar with its gradient, "
                "the sum over counted tokens: (per_token * inputs.loss_mask).sum()."
            )
        self._sensed = self._made
        with not_noticed(), torch.enable_grad():
            self._like = self._inputs.sensitivity(total)
        return self._like

    def _check_turn(self) -> None:
        if self._made in {self._sensed, self._passes}:
            when = "twice before inputs.again" if self._sensed == self._made else "after its last inputs.again"
            raise ContractError(
                f"{self._owner} calls inputs.sensitivity {when}.",
                why="Where a policy is sharded, all ranks make the same passes in the same order: sensitivity, then again.",
                fix="Call it once before each call of inputs.again, of the sum of all that you want the derivative of.",
            )

    def _check_shift(self, shift: object) -> None:
        rows = tuple(self._inputs.loss_mask.shape)
        wanted = f"[{rows[0]}, {rows[1]}, hidden]" if self._like is None else str(list(self._like.shape))
        fits = isinstance(shift, Tensor) and shift.is_floating_point() and shift.ndim == 3 and tuple(shift.shape[:2]) == rows
        if not fits or (self._like is not None and shift.shape != self._like.shape):  # type: ignore[attr-defined]
            raise ContractError(
                f"{self._owner} calls inputs.again({described(shift)}); the shift of the embeddings is a float tensor of "
                f"shape {wanted}, like inputs.sensitivity(total)."
            )
        if not bool(torch.isfinite(shift).all()):  # type: ignore[arg-type]
            raise ContractError(
                f"{self._owner} calls inputs.again with a shift that is not finite.",
                why="The last token and padding have no influence: their sensitivity is 0, and 0 / 0 is NaN.",
                fix="Divide by a norm with a lower bound: eps * torch.nn.functional.normalize(g, dim=-1).",
            )

    @staticmethod
    def _times(number: int) -> str:
        return "once" if number == 1 else "twice" if number == 2 else f"{number} times"
