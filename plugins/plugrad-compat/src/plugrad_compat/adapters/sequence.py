"""OneAtATime: what the adapters share that call a foreign loss with one sequence at a time."""

from __future__ import annotations

from collections.abc import Callable

from plugrad import LossInputs, LossOutputs
from plugrad_compat.adapters.foreign import ForeignLoss
from plugrad_compat.adapters.probe import Probe
from plugrad_compat.adapters.responses import as_rows


class OneAtATime:
    """A foreign loss, tried before its first sequence: what it declares of itself must be so."""

    def __init__(self, make: Callable[[], ForeignLoss]) -> None:
        self._make = make
        self._foreign = make()
        self._is_tried = False

    def of_sequence(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence.

        Raises:
            ContractError: the loss divides by something else than is declared, mixes sequences, or returned no scalar.
        """
        rows = as_rows(inputs)
        if self._is_tried:
            return self._foreign.of_sequence(rows)
        # Another instance is tried: what a loss keeps of the trial is gone with it.
        self._make().check(Probe.like(rows))
        outputs = self._foreign.of_sequence(rows)
        self._foreign.say_what_was_not_read()
        self._is_tried = True
        return outputs
