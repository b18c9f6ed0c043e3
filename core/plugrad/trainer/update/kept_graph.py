"""Find the loss that keeps the graph of an earlier micro-batch, after its backward pass has failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import ContractError
from plugrad.host.loss import BoundLoss

SECOND_TIME = "backward through the graph a second time"
"""What PyTorch raises."""


@contextmanager
def naming_kept_graphs(inputs: BatchLossInputs, terms: Sequence[tuple[BoundLoss, Tensor]]) -> Iterator[None]:
    """Name the loss whose term reaches the policy past this micro-batch's inputs, if its backward pass fails inside.

    Raises:
        ContractError: instead of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        keeps = [loss for loss, term in terms if _reaches_past(term, inputs)] if SECOND_TIME in str(error) else []
        if not keeps:
            raise
        raise ContractError(
            f"{keeps[0].component} keeps the graph of an earlier micro-batch: a tensor that it stored then still has its "
            "gradient, and a backward pass frees its graph. Store what lasts between calls detached: tensor.detach()."
        ) from error


def _reaches_past(term: Tensor, inputs: BatchLossInputs) -> bool:
    """Whether a leaf of the term's graph is reached other than through the inputs."""
    values = [*vars(inputs).values(), *(inputs.parameters or {}).values()]
    given = {value.grad_fn for value in values if isinstance(value, Tensor)}
    seen: set[Any] = {None, *given}
    ahead: list[Any] = [term.grad_fn]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        if hasattr(node, "variable"):
            return True
        seen.add(node)
        ahead.extend(following for following, _ in node.next_functions)
    return False
