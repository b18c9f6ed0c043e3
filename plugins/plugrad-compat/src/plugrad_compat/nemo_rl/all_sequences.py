"""`nemo_rl_sequence_whole_batch` and `nemo_rl_pairs`: NeMo RL losses with LossType.SEQUENCE_LEVEL that mix sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from plugrad import BatchLossInputs, CallableReference, ContractError, LossOutputs, loss
from plugrad_compat.adapters.foreign import DividesRowsBy, ForeignLoss
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.tried import TriedLoss
from plugrad_compat.nemo_rl.loss import foreign_loss, needs_of, without_logits

PAIRS, WHOLE_BATCH = "nemo_rl_pairs", "nemo_rl_sequence_whole_batch"
_read_of_sequences = needs_of("sequence_level", num_sequences=2)


def _needs_for(name: str) -> Callable[[Mapping[str, Any]], frozenset[str]]:
    return lambda options: without_logits(_read_of_sequences(options), options, name)


@loss(needs=_needs_for(WHOLE_BATCH), reduction="sequence_sum", policy_gradient=False, sums_tokens=False, whole_batch=True)
class NemoRlSequenceWholeBatchLoss(TriedLoss):
    """The loss of a NeMo RL loss with LossType.SEQUENCE_LEVEL that mixes sequences, called with the whole batch.

    Args:
        target: `file.py:name` or `module:name` of an instance, or of a class that is created with `config`.
        config: NeMo RL's `loss_function.params`.
        divides_by: what its scalar was divided by besides `global_valid_seqs`: "sequences" if it takes its own mean.

    Reports:
        NAME: each metric that the loss returns, with the same divisor as the loss.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesRowsBy = "nothing"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, "sequence_level", divides_by))

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss."""
        return self.of_all_sequences(inputs)


@loss(needs=_needs_for(PAIRS), reduction="sequence_sum", policy_gradient=False, sums_tokens=False, whole_batch=True)
class NemoRlPairsLoss(TriedLoss):
    """The loss of a NeMo RL loss of preference pairs, such as DPO: rows 0, 2, ... are chosen, rows 1, 3, ... rejected.

    The `references` of an example are its chosen and its rejected completion, in this order; more pairs may follow. As in
    NeMo RL's DPO, `reference_policy_logprobs` are shifted left by one. A sequence without a partner counts 0.

    Args:
        target: `file.py:name` or `module:name` of an instance, or of a class that is created with `config`.
        config: NeMo RL's `loss_function.params`, or `dpo` in its config.
        divides_by: what its scalar was divided by besides `global_valid_seqs`: "sequences" if it takes its own mean.

    Reports:
        NAME: each metric that the loss returns, with the same divisor as the loss.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesRowsBy = "nothing"
    ) -> None:
        super().__init__(partial(_pair_loss, target, config or {}, divides_by))
        self._target = target

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss.

        Raises:
            ContractError: it is not known which rows are pairs.
        """
        order = _pairs(self._target, inputs)
        nothing = 0.0 * inputs.trainer_logprobs.sum(dim=1)
        if len(order) < len(nothing):
            notice(
                f"{len(nothing) - len(order)} of {len(nothing)} sequences have no partner and count 0: {self._target!r} "
                "compares rollouts 0 and 1 of an example, 2 and 3, and so on. Set rollouts_per_example = 2."
            )
        if not order:
            return LossOutputs(nothing)
        places = torch.tensor(order, device=nothing.device)
        outputs = self.of_all_sequences(_rows(inputs, places))
        return LossOutputs(nothing.index_add(0, places, outputs.loss.to(nothing)), outputs.metrics)


def _pair_loss(target: str, config: dict[str, Any], divides_by: DividesRowsBy) -> ForeignLoss:
    foreign = foreign_loss(target, config, "sequence_level", divides_by)
    return replace(foreign, call=partial(_call_as_in_dpo, foreign.call))


def _call_as_in_dpo(call: Callable[[BatchLossInputs], Any], inputs: BatchLossInputs) -> Any:
    """Call with the reference's log-probs where NeMo RL's DPO has them: rolled to the left, unlike those of its GRPO."""
    if inputs.ref_logprobs is None:
        return call(inputs)
    return call(replace(inputs, ref_logprobs=inputs.ref_logprobs.roll(-1, dims=1)))


def _pairs(target: str, inputs: BatchLossInputs) -> list[int]:
    """Return the rows that have a partner: chosen, rejected, chosen, rejected, by prompt and member."""
    if inputs.group_ids is None or inputs.member is None:
        raise ContractError(f"{target!r} compares the rollouts 0 and 1 of an example: pass group_ids and member.")
    keys = zip(inputs.group_ids.tolist(), inputs.member.tolist(), strict=True)
    place = {key: row for row, key in enumerate(keys)}
    chosen = [(group, member) for group, member in sorted(place) if member % 2 == 0 and (group, member + 1) in place]
    return [place[group, member + side] for group, member in chosen for side in (0, 1)]


def _rows(inputs: BatchLossInputs, places: Tensor) -> BatchLossInputs:
    values: dict[str, Any] = {name: value[places] for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    metadata = inputs.metadata and [inputs.metadata[place] for place in places.tolist()]
    return replace(inputs, metadata=metadata, **values)
