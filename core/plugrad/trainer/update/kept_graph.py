"""Find the loss that keeps the graph of an earlier micro-batch, after its backward pass has failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import ContractError
from plugrad.host.loss import BoundLoss

SECOND_TIME = "backward through the graph a second time"
"""What PyTorch raises."""


@contextmanager
def naming_kept_graphs(
    inputs: BatchLossInputs, terms: Sequence[tuple[BoundLoss, Tensor]], further: Iterable[Tensor] = ()
) -> Iterator[None]:
    """Name the loss whose term reaches the policy past this micro-batch's inputs, if its backward pass fails inside.

    Args:
        inputs: of the losses.
        terms: by loss.
        further: what further passes gave.

    Raises:
        ContractError: instead of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        values = [*vars(inputs).values(), *(inputs.parameters or {}).values()]
        given = [*(value for value in values if isinstance(value, Tensor)), *further]
        keeps = [loss for loss, term in terms if _reaches_past(term, given)] if SECOND_TIME in str(error) else []
        if not keeps:
            raise
        raise ContractError(
            f"{keeps[0].component} keeps the graph of an earlier micro-batch: a tensor that it stored then still has its "
            "gradient, and a backward pass frees its graph. Store what lasts between calls detached: tensor.detach()."
        ) from error


def _reaches_past(term: Tensor, given: Iterable[Tensor]) -> bool:
    """Whether a leaf of the term's graph is reached other than through what the loss was given."""
    seen: set[Any] = {None, *(value.grad_fn for value in given)}
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
