"""Check the inputs that extensions hand on to a component."""

from __future__ import annotations

from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import ContractError


def check_prepared(owner: str, prepared: BatchLossInputs, inputs: BatchLossInputs) -> None:
    """Check what extensions made of a loss's inputs.

    Raises:
        ContractError: `loss_mask` counts a token that did not count, or the policy's log-probs have lost their gradient.
    """
    # The comparison waits for the device: only runs whose extension changes the mask pay for it.
    if prepared.loss_mask is not inputs.loss_mask:
        check_nothing_added(owner, prepared, inputs)
    if inputs.trainer_logprobs.requires_grad and not prepared.trainer_logprobs.requires_grad:
        raise ContractError(
            f"{owner}: its prepare_loss returned trainer_logprobs without gradient, so that the loss has none. Hand them on "
            "without detach() and outside torch.no_grad()."
        )


def check_nothing_added(owner: str, prepared: BatchLossInputs, inputs: BatchLossInputs) -> None:
    """Raise ContractError if `prepare_loss` made a token count that did not count before."""
    if bool((prepared.loss_mask & ~inputs.loss_mask).any()):
        raise ContractError(
            f"{owner}: its prepare_loss set loss_mask to True where no token counted. It may only drop tokens: prompt and "
            "padding have no log-probs."
        )


def check_same_shape(owner: str, field: str, found: Tensor, given: Tensor) -> None:
    """Raise ContractError if a field has another shape than before."""
    if found.shape != given.shape:
        raise ContractError(
            f"{owner} changed the shape of inputs.{field} from {tuple(given.shape)} to {tuple(found.shape)}. Keep all "
            "rows, and set loss_mask to False where a token must not count."
        )
