"""The loss `prime_rl`: a prime-rl loss that reads `teacher_logprobs`, `ref_logprobs` or `loss_weights`.

Other prime-rl losses need no adapter: plugrad reads `[loss] type = "custom"` with `import_path` and `kwargs` as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

import plugrad
from plugrad import CallableReference, ContractError, LossOutputs, OptionError, loss, prepared_rows, resolve_callable
from plugrad_compat.adapters.signatures import PRIME_RL_LOSS, checked_signature
from plugrad_compat.prime_rl.inputs import LossInputs

Reference = Literal["teacher", "reference"]
FIELDS: dict[str, str] = {"teacher": "teacher_logprobs", "reference": "ref_logprobs"}


def needs_of(options: Mapping[str, Any]) -> set[str]:
    """Return the field that becomes `ref_logprobs`."""
    return {FIELDS[options["ref"]]} if options["ref"] else set()


@loss(needs=needs_of)
class PrimeRlLoss:
    """loss_s of a prime-rl loss, called with prime-rl's `teacher_logprobs`, `ref_logprobs` and `loss_weights`.

    Args:
        target: `file.py:name` or `module:name` of the function `(inputs, **kwargs) -> LossOutputs`.
        kwargs: its keyword arguments.
        ref: the model behind `ref_logprobs`: "teacher", as in prime-rl's distillation (its earlier name, `teacher_logprobs`,
            works too), or "reference". By default there is none.

    Reports:
        NAME: each metric that the loss returns.
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

    def __call__(self, inputs: plugrad.LossInputs) -> LossOutputs:
        """Return the sum over one sequence."""
        inputs = prepared_rows(inputs)
        theirs = LossInputs(
            trainer_logprobs=inputs.trainer_logprobs,
            inference_logprobs=inputs.inference_logprobs,
            advantages=inputs.advantages,
            loss_mask=inputs.loss_mask,
            teacher_logprobs=inputs.teacher_logprobs,
            ref_logprobs=getattr(inputs, FIELDS[self._ref]) if self._ref else None,
            # prime-rl's None means ones. Ones can also be multiplied by.
            loss_weights=torch.ones_like(inputs.advantages),
        )
        returned = self._call(theirs, **self._kwargs)
        # The outputs may be prime-rl's own class, if prime-rl is installed.
        if not isinstance(getattr(returned, "loss", None), Tensor):
            raise ContractError(
                f"{self._target!r} returned {type(returned).__name__}; {PRIME_RL_LOSS.name} returns "
                "LossOutputs(loss=a tensor, metrics=...)."
            )
        metrics = getattr(returned, "metrics", None) or {}
        detached = {
            # In the run's precision: a float32 sum would depend on the order of its terms.
            name: value.detach().to(inputs.advantages) if isinstance(value, Tensor) else value
            for name, value in metrics.items()
        }
        return LossOutputs(returned.loss, detached)
