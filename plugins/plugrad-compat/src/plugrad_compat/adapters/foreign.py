"""ForeignLoss: convert another system's scalar into plugrad's sums over sequences.

Another system's loss returns a mean over its inputs, or a sum that its system divides later. Called with one sequence
and with every denominator 1, either is the sum over that sequence up to a known factor. `divides_by` names the factor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad import BatchLossInputs, ContractError, LossOutputs, PlugradError
from plugrad_compat.adapters.config import Config
from plugrad_compat.adapters.metrics import Metrics, type_of
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.probe import Probe
from plugrad_compat.adapters.twice import divisor_of_rows

DividesBy = Literal["tokens", "nothing"]
DividesRowsBy = Literal["sequences", "nothing"]
"""What a scalar of a whole batch was divided by: its sequences, as a mean over anything is, or nothing."""


@dataclass(frozen=True)
class ForeignLoss:
    """One loss of another system, with its config."""

    target: str
    """The name in the run file."""
    style: str
    """The style with an article, as in "a SkyRL policy loss"."""
    call: Callable[[BatchLossInputs], Any]
    """Call the loss with the rows under its own names, and return its result."""
    divides_by: DividesBy | DividesRowsBy | None
    """What its scalar was divided by: its counted tokens, its sequences, or nothing. None if it returns one value per
    sequence."""
    metrics: Metrics
    """How its metrics add up."""
    config: Config
    way_to_mix: str
    """What to do if it mixes sequences."""

    def of_sequence(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return the sum over one sequence. The host chooses the denominator."""
        scalar, metrics = self._called(inputs)
        counts = _counted(inputs)
        return LossOutputs(self._sum(scalar, counts.sum()), self.metrics.measures(metrics, counts))

    def of_whole_batch(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of a scalar that mixes rows: the sum of all, split by token counts."""
        scalar, metrics = self._called(inputs)
        counts = _counted(inputs)
        shares = self._sum(scalar, counts.sum()) * counts / counts.sum()
        return LossOutputs(shares, self.metrics.measures(metrics, counts))

    def of_all_sequences(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of a scalar that mixes rows, so that the mean over the rows is what its system minimises.

        A scalar that is NaN, as the mean of nothing is, counts 0.
        """
        scalar, metrics = self._called(inputs)
        num = len(inputs.loss_mask)
        if bool(scalar.isnan()):
            notice(
                f"{self.target!r} returned NaN for a batch of {num} sequences, as a mean over nothing does: for example "
                "over pairs with the same label, where no two rows have it. Such a batch counts 0."
            )
            return LossOutputs(0.0 * inputs.trainer_logprobs.sum(dim=1))
        share = scalar if self.divides_by == "sequences" else scalar / num
        return LossOutputs(share.expand(num), self.metrics.measures(metrics, _counted(inputs)))

    def check(self, probe: Probe) -> None:
        """Raise ContractError unless a trial on random sequences confirms what is declared about this loss."""
        found = probe.of(self.scalar)
        if not found.is_finite:
            raise ContractError(f"{self.target!r} returned no finite number in a trial on two random sequences.")
        if found.mixes:
            raise self.mixing()
        self._agree_on(found.divides_by)

    def mixing(self) -> ContractError:
        """Return the error of a loss that mixes sequences and is called with one at a time."""
        return ContractError(
            f"{self.target!r} mixes sequences: its loss of two together differs from the loss of each alone. With one "
            f"sequence at a time it would be another loss. {self.way_to_mix}"
        )

    def check_divisor(self, probe: Probe) -> None:
        """Raise ContractError unless a trial confirms the declared divisor of a loss that mixes sequences."""
        self._agree_on(probe.divisor_of(self.scalar))

    def check_divisor_of_rows(self, rows: BatchLossInputs) -> None:
        """Raise ContractError unless a trial with all rows twice confirms the declared divisor of a loss of sequences."""
        self._agree_on(divisor_of_rows(self.scalar, rows))

    def scalar(self, inputs: BatchLossInputs) -> float:
        """Return the loss as a number, for trials."""
        return float(self._called(inputs)[0])

    def say_what_was_not_read(self) -> None:
        """Log a notice about config keys that the loss has never read."""
        for key in self.config.unread():
            notice(f"{self.target!r} never read {key!r} of its config. The key has no effect, or another name.")

    def _agree_on(self, found: DividesBy | DividesRowsBy | None) -> None:
        if self.divides_by and found not in (None, self.divides_by):
            of_rows = "sequences" in (found, self.divides_by)
            said = _OF_ROWS if of_rows else _OF_TOKENS
            consequence = (
                "The objective would be too large or too small by the number of sequences."
                if of_rows
                else "Each sequence would be weighted by its length once too often or too little."
            )
            raise ContractError(
                f"{self.target!r} returns {said[found]}, but divides_by = {self.divides_by!r} says {said[self.divides_by]}. "
                f'{consequence} Write kwargs = {{ divides_by = "{found}", ... }}.'
            )

    def _sum(self, scalar: Tensor, tokens: Tensor) -> Tensor:
        return scalar * tokens if self.divides_by == "tokens" else scalar

    def _called(self, inputs: BatchLossInputs) -> tuple[Tensor, Mapping[str, Any]]:
        try:
            returned = self.call(inputs)
        except PlugradError:
            raise
        except Exception as error:
            raise ContractError(f"{self.target!r} raised {type(error).__name__}: {error}") from from_their_frame(error)
        loss, metrics = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, {})
        if not isinstance(loss, Tensor):
            raise ContractError(
                f"{self.target!r} returned {type_of(returned)}; {self.style} returns a scalar tensor, or one and metrics."
            )
        if loss.numel() != 1:
            raise ContractError(
                f"{self.target!r} returned a loss of shape {tuple(loss.shape)}: values per token, but {self.style} returns "
                "a scalar. Reduce it as that system does, for example (loss * mask).sum() / mask.sum()."
            )
        # SkyRL's older functions return only a clip ratio.
        named = metrics if isinstance(metrics, Mapping) else {"clip_ratio": metrics}
        return loss.reshape(()), self.metrics.numbers(named, self.target, self.style)


def select(name: str) -> str:
    """Return what to do with a loss that mixes sequences: select it by the name of a loss of the whole batch."""
    return f'Select name = "{name}", which passes it the sequences of all micro-batches and ranks at once.'


_OF_TOKENS = {"tokens": "a mean over its tokens", "nothing": "a sum over its tokens"}
_OF_ROWS = {"sequences": "a mean over its batch", "nothing": "a sum over its sequences"}


def from_their_frame(error: Exception) -> Exception:
    """Return the exception with a traceback that starts after this package's frames."""
    own, trace = str(Path(__file__).parents[1]), error.__traceback__
    while trace and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(own):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _counted(inputs: BatchLossInputs) -> Tensor:
    """Return each row's counted tokens, `[batch]`, in at least 32 bits: 16 bits cannot tell large counts apart."""
    return inputs.loss_mask.sum(dim=1).to(torch.promote_types(inputs.advantages.dtype, torch.float32))
