"""TriedLoss: a foreign loss that is tried once before its first call, shared by the adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plugrad import BatchLossInputs, LossInputs, LossOutputs, prepared_rows
from plugrad_compat.adapters.foreign import ForeignLoss
from plugrad_compat.adapters.probe import Probe
from plugrad_compat.adapters.responses import as_rows


class TriedLoss:
    """A foreign loss whose declarations are verified before its first call. Unread config keys are reported."""

    def __init__(self, make: Callable[[], ForeignLoss]) -> None:
        self._make = make
        self._foreign = make()
        self._is_tried = False

    def of_sequence(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence.

        Raises:
            ContractError: the loss has another divisor than declared, mixes sequences, or did not return a scalar.
        """
        return self._tried(as_rows(inputs), ForeignLoss.check, ForeignLoss.of_sequence)

    def of_whole_batch(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss, for a loss that mixes sequences.

        Raises:
            ContractError: the loss has another divisor than declared, or did not return a scalar.
        """
        return self._tried(inputs, ForeignLoss.check_divisor, ForeignLoss.of_whole_batch)

    def of_all_sequences(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss, for a loss that mixes sequences and counts each once.

        Raises:
            ContractError: the loss has another divisor than declared, or did not return a scalar.
        """

        def check(foreign: ForeignLoss, _: Probe) -> None:
            foreign.check_divisor_of_rows(prepared_rows(inputs))

        return self._tried(inputs, check, ForeignLoss.of_all_sequences)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a foreign loss has no state between updates, and a resumed run may try it once more."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""

    def _tried(
        self,
        rows: BatchLossInputs,
        check: Callable[[ForeignLoss, Probe], None],
        call: Callable[[ForeignLoss, BatchLossInputs], LossOutputs],
    ) -> LossOutputs:
        rows = prepared_rows(rows)
        if self._is_tried:
            return call(self._foreign, rows)
        # The trial uses another instance, so that its state does not reach the run.
        check(self._make(), Probe.like(rows))
        outputs = call(self._foreign, rows)
        self._foreign.say_what_was_not_read()
        self._is_tried = True
        return outputs
