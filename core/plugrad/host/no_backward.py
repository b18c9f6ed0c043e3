"""Notice a backward pass that a plugin starts itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar

from plugrad.contracts.loss import POLICY_OUTPUTS, BatchLossInputs
from plugrad.errors import ContractError

ITSELF = "calls backward() itself"


class NoBackward:
    """While the body runs, no gradient may flow back through the policy's outputs into its weights.

    Outputs that are leaves, as in a trial, have no weights behind them: there their own `grad` may not change.
    `torch.autograd.grad(loss, inputs.trainer_logprobs)` stops before the weights, and is allowed.

    Raises:
        ContractError: it did; an exception of the body is then a consequence.
    """

    passes_let_through: ClassVar[int] = 0
    """How many of plugrad's own passes are under way. Not by thread: on an accelerator, hooks run in another one."""

    def __init__(self, owner: str, inputs: BatchLossInputs) -> None:
        self._owner = owner
        outputs = [*(getattr(inputs, name) for name in POLICY_OUTPUTS), *(inputs.parameters or {}).values()]
        self._nodes = [output.grad_fn for output in outputs if output is not None and output.grad_fn is not None]
        self._leaves = [output for output in outputs if output is not None and output.is_leaf and output.requires_grad]
        self._happened = False

    def __enter__(self) -> None:
        # Hooks of the nodes run only where the pass goes on behind them, unlike hooks of the tensors.
        self._gradients = self._of_leaves()
        self._hooks = [node.register_prehook(self._note) for node in self._nodes]

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        happened = self._happened or self._of_leaves() != self._gradients
        if happened and not (isinstance(error, ContractError) and ITSELF in str(error)):
            raise calls_backward(self._owner) from (error and error.__cause__)

    def _of_leaves(self) -> list[tuple[int, int]]:
        """Return what a backward pass would change: which tensor holds the gradient, and how often it was written to."""
        return [(id(leaf.grad), 0 if leaf.grad is None else leaf.grad._version) for leaf in self._leaves]

    def _note(self, _gradients: Any) -> None:
        self._happened = self._happened or not NoBackward.passes_let_through


@contextmanager
def not_noticed() -> Iterator[None]:
    """Let a pass of plugrad's own through, which stops before the weights."""
    NoBackward.passes_let_through += 1
    try:
        yield
    finally:
        NoBackward.passes_let_through -= 1


def calls_backward(owner: str) -> ContractError:
    """Return the error that names the plugin which started a backward pass."""
    return ContractError(f"{owner} {ITSELF}. Return the loss: the trainer sums all losses and calls backward() once.")
