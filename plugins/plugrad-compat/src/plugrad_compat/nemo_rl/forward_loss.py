"""`nemo_rl_forward` and `nemo_rl_forward_whole_batch`: a BaseLossFunction, whose `forward` names what it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from plugrad import (
    BatchLossInputs,
    CallableReference,
    ContractError,
    LossInputs,
    LossOutputs,
    PluginError,
    PlugradError,
    loss,
    resolve_callable,
)
from plugrad_compat.adapters.config import Config
from plugrad_compat.adapters.foreign import DividesBy, DividesRowsBy, ForeignLoss, select
from plugrad_compat.adapters.metrics import Are, Metrics
from plugrad_compat.adapters.probe import Probe
from plugrad_compat.adapters.responses import as_rows
from plugrad_compat.adapters.signatures import Signature
from plugrad_compat.adapters.tried import TriedLoss
from plugrad_compat.nemo_rl.arguments import Arguments, Source, advised
from plugrad_compat.nemo_rl.loss import created

FORWARD, WHOLE_BATCH = "nemo_rl_forward", "nemo_rl_forward_whole_batch"
STEPS = (1, 2)
"""By how much a trial moves a column, to see whether a loss treats some values apart."""
DRAWS = (
    "draws random numbers: the update would depend on how the batch is cut, and on the number of ranks. If it samples "
    "actions: an advantage belongs to the token that was sampled. Take the argument `actions`, the sampled tokens, in their "
    "place: log_probs.gather(1, actions.unsqueeze(1))."
)


def _needs_of_tokens(options: Mapping[str, Any]) -> frozenset[str]:
    found = _arguments(options)
    if not found.by_token:
        raise PluginError(f"forward of {found.target!r} sees whole sequences and no tokens. {select(WHOLE_BATCH)}")
    return found.needs


def _needs_of_batch(options: Mapping[str, Any]) -> frozenset[str]:
    found = _arguments(options)
    for name, field in found.wide.items():
        raise PluginError(
            f"forward of {found.target!r} takes {name!r}, and the {field} of a whole batch never exist at once. Select "
            f'name = "{FORWARD}", which calls it with the tokens of one sequence at a time.'
        )
    return found.needs


def _arguments(options: Mapping[str, Any]) -> Arguments:
    call = forward_loss(options["target"], options["config"] or {}, options["arguments"] or {}, None).call
    assert isinstance(call, _Call)
    return call.arguments


@loss(needs=_needs_of_tokens, policy_gradient=False)
class NemoRlForwardLoss(TriedLoss):
    """sum_t l_t of a BaseLossFunction that takes a mean over its rows: the counted tokens, one sequence at a time.

    Args:
        target: `file.py:name` or `module:name` of a class with a `forward`, which is created with `config`.
        config: its config, as in NeMo RL.
        arguments: a field of plugrad's inputs, a column of the examples or a number, for arguments of `forward` whose names
            do not say it.
        divides_by: what its scalar was divided by: its rows, or "nothing".

    Reports:
        NAME: each metric that the loss returns, with the same divisor as the loss.
    """

    def __init__(
        self,
        target: CallableReference,
        config: dict[str, Any] | None = None,
        arguments: dict[str, str | int | float] | None = None,
        divides_by: DividesBy = "tokens",
    ) -> None:
        super().__init__(partial(forward_loss, target, config or {}, arguments or {}, divides_by))

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence.

        Raises:
            ContractError: the loss mixes sequences, draws random numbers, or has another divisor.
        """
        rows = as_rows(inputs)
        return self._tried(rows, partial(_check, rows=rows), ForeignLoss.of_sequence)


@loss(needs=_needs_of_batch, reduction="sequence_sum", policy_gradient=False, sums_tokens=False, whole_batch=True)
class NemoRlForwardWholeBatchLoss(TriedLoss):
    """The loss of a BaseLossFunction that sees all sequences at once, such as one of embeddings.

    The update minimises what `forward` returns for the whole batch, with the reduction `sequence_sum`.

    Args:
        target: `file.py:name` or `module:name` of a class with a `forward`, which is created with `config`.
        config: its config, as in NeMo RL.
        arguments: a field of plugrad's inputs, a column of the examples or a number, for arguments of `forward` whose names
            do not say it.
        divides_by: what its scalar was divided by: "sequences" for any mean, or "nothing".

    Reports:
        NAME: each metric that the loss returns, with the same divisor as the loss.
    """

    def __init__(
        self,
        target: CallableReference,
        config: dict[str, Any] | None = None,
        arguments: dict[str, str | int | float] | None = None,
        divides_by: DividesRowsBy = "sequences",
    ) -> None:
        super().__init__(partial(forward_loss, target, config or {}, arguments or {}, divides_by))

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss."""
        return self.of_all_sequences(inputs)


@dataclass(frozen=True)
class _Call:
    """Call `forward` with what its parameters name."""

    made: Callable[..., Any]
    arguments: Arguments

    def __call__(self, inputs: BatchLossInputs) -> Any:
        given = self.arguments.given(inputs)
        return advised(lambda: self.made(**given))


def forward_loss(
    target: str, config: dict[str, Any], arguments: Mapping[str, Source], divides_by: DividesBy | DividesRowsBy | None
) -> ForeignLoss:
    """Find and create the loss, and decide what its `forward` receives.

    Raises:
        PluginError: it is not found, has no `forward`, or asks for what plugrad does not hand out.
        OptionError: `arguments` names no parameter of `forward`.
    """
    whole = Config(config)
    made = created(resolve_callable(target), whole)
    forward = getattr(made, "forward", None)
    if not callable(forward):
        raise PluginError(
            f"{target!r} has no forward(). {FORWARD} takes a BaseLossFunction of NeMo RL's guide. Select a LossFunction, "
            'which takes data, with name = "nemo_rl" or "nemo_rl_sequence".'
        )
    call = _Call(made, Arguments.of(target, Signature.of(forward), arguments))
    are: Are = "means" if divides_by != "nothing" else "per token" if call.arguments.by_token else "per sequence"
    return ForeignLoss(target, "forward", call, divides_by, Metrics(are), whole, _way_to_mix(call.arguments))


def _way_to_mix(arguments: Arguments) -> str:
    apart = " ".join(
        f"If it treats the values of {column!r} apart, write a [[loss]] table for each, with where = {{ {column} = 0 }} and "
        f"kwargs.arguments = {{ {name} = 0 }}: it counts those examples alone."
        for name, column in arguments.columns.items()
    )
    if not arguments.wide:
        return f"{apart} {select(WHOLE_BATCH)}".strip()
    (name, field), *_ = arguments.wide.items()
    return f"It takes {name!r}, and the {field} of all sequences never exist at once. {apart}".strip()


def _check(foreign: ForeignLoss, probe: Probe, rows: BatchLossInputs) -> None:
    """Raise ContractError if it draws, mixes sequences, or has another divisor than declared."""
    assert isinstance(foreign.call, _Call)
    _check_draws_nothing(foreign, rows)
    columns = foreign.call.arguments.columns.values()
    example: Mapping[str, Any] = (rows.metadata or [{}])[0]
    foreign.check(replace(probe, examples=(example,)))
    known: DividesBy = "nothing" if foreign.divides_by == "nothing" else "tokens"
    for other in (example, *_moved(example, columns)):
        try:
            # Both sequences have as many tokens, so that the mean over all is the mean of theirs.
            mixes = replace(probe, examples=(example, other)).of(foreign.scalar, known).mixes
        except PlugradError:
            # No example need have such a value.
            continue
        if mixes:
            raise foreign.mixing()


def _check_draws_nothing(foreign: ForeignLoss, rows: BatchLossInputs) -> None:
    failure: PlugradError | None = None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.random.get_rng_state()
        try:
            foreign.scalar(rows)
        except PlugradError as error:
            failure = error
        drawn = not torch.equal(torch.random.get_rng_state(), before)
    if drawn:
        raise ContractError(f"{foreign.target!r} {DRAWS}") from failure
    if failure is not None:
        raise failure


def _moved(example: Mapping[str, Any], columns: Any) -> Iterator[dict[str, Any]]:
    for column in columns:
        value = example.get(column)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield from ({**example, column: value + step} for step in STEPS)
