"""The loss `prime_rl`: a loss of prime-rl's that reads its later names, `ref_logprobs` and `loss_weights`.

One that does not needs no adapter: `[loss] type = "custom"` with `import_path` and `kwargs` is read as prime-rl has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad import CallableReference, ContractError, LossInputs, LossOutputs, OptionError, loss, resolve_callable
from plugrad_compat.adapters.signatures import PRIME_RL_LOSS, checked_signature

Reference = Literal["teacher", "reference"]
FIELDS: dict[str, str] = {"teacher": "teacher_logprobs", "reference": "ref_logprobs"}


def needs_of(options: Mapping[str, Any]) -> set[str]:
    """Return what `ref_logprobs` is to be."""
    return {FIELDS[options["ref"]]} if options["ref"] else set()


@loss(needs=needs_of)
class PrimeRlLoss:
    """loss_s of a prime-rl loss, given `ref_logprobs` and `loss_weights` as its later versions name them.

    Args:
        target: `file.py:name` or `module:name` of the function `(inputs, **kwargs) -> LossOutputs`.
        kwargs: its keyword arguments.
        ref: whose log-probs `ref_logprobs` are: the teacher's, as in prime-rl's distillation, or the frozen reference's. By
            default there are none.

    Reports:
        NAME: each metric that the loss hands out.
    """

    def __init__(
        self, target: CallableReference, kwargs: dict[str, Any] | None = None, ref: Reference | None = None
    ) -> None:
        self._target = target
        self._call = resolve_callable(target)
        self._kwargs = kwargs or {}
        self._ref = ref
        signature = checked_signature(target, self._call, PRIME_RL_LOSS, self._kwargs)
        unknown = [name for name in self._kwargs if not signature.takes_any and name not in signature.names]
        if unknown:
            takes = ", ".join(signature.names[1:]) or "nothing besides its inputs"
            raise OptionError(f"{target!r} has no keyword argument {unknown[0]!r}: it takes {takes}.")

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence."""
        ref = getattr(inputs, FIELDS[self._ref]) if self._ref else None
        # None means 1 there; ones mean it too, and can be multiplied by.
        weights = torch.ones_like(inputs.advantages)
        returned = self._call(replace(inputs, ref_logprobs=ref, loss_weights=weights), **self._kwargs)
        # prime-rl's own class, where it is installed, is as good as ours.
        if not isinstance(getattr(returned, "loss", None), Tensor):
            raise ContractError(
                f"{self._target!r} returned {type(returned).__name__}; {PRIME_RL_LOSS.name} returns "
                "LossOutputs(loss=a tensor, metrics=...)."
            )
        metrics = getattr(returned, "metrics", None) or {}
        detached = {
            # In the precision of the run: what is float32 to a function would depend on the order in which it is added up.
            name: value.detach().to(inputs.advantages) if isinstance(value, Tensor) else value
            for name, value in metrics.items()
        }
        return LossOutputs(returned.loss, detached)
