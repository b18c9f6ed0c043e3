"""WholeMicroBatches: what the adapters share that call a foreign loss which mixes sequences."""

from __future__ import annotations

from collections.abc import Callable

from plugrad import BatchLossInputs, LossOutputs
from plugrad_compat.adapters.foreign import ForeignLoss
from plugrad_compat.adapters.probe import Probe


class WholeMicroBatches:
    """A foreign loss, tried before its first micro-batch: it must divide by what is declared."""

    def __init__(self, make: Callable[[], ForeignLoss]) -> None:
        self._make = make
        self._foreign = make()
        self._is_tried = False

    def of_micro_batch(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of what the micro-batch gives.

        Raises:
            ContractError: the loss divides by something else than is declared, or returned no scalar.
        """
        if self._is_tried:
            return self._foreign.of_micro_batch(inputs)
        self._make().check_divisor(Probe.like(inputs))
        outputs = self._foreign.of_micro_batch(inputs)
        self._foreign.say_what_was_not_read()
        self._is_tried = True
        return outputs
