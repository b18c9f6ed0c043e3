"""The promises of a loss that real data can try: on the micro-batches of a captured step.

The capture's numbers are taken in float64, so that a comparison sees no rounding. What a capture never holds, as logits, is
made up. Promises that need numbers of their own, such as two policies a few nats apart, are those of the usual check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import InputsChanged, PluginError
from plugrad.host.made_up import VOCABULARY
from plugrad.host.synthetic import in_dtype
from plugrad.host.trial import on_trial
from plugrad.testing.checks import Broken, Check, NotApplicable, Promise, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.losses.cuts import CUT, skip_if_it_mixes
from plugrad.testing.losses.gradients import GRADIENTS, NEGLIGIBLE
from plugrad.testing.losses.loss_trial import LossTrial, compare_rows, numbers_of
from plugrad.testing.losses.loss_values import DETERMINISTIC, LIMIT_S, RUNS, VALUES
from plugrad.testing.losses.mixing import MIXING
from plugrad.testing.losses.trial_micro_batches import padded, rows_of, with_garbage
from plugrad.testing.numbers import compare_numbers, is_finite
from plugrad.trainer.capture.capture_files import Capture

MADE_UP = frozenset({"logits", "teacher_logits", "teacher_divergence", "hidden_states", "embedding", "values", "again"})
"""What the kit makes up where a loss needs it: the first two are never captured, and the others may not be."""
GARBAGE = 30.0
MOST_ROWS = 64
"""So many sequences of a step are tried: a check calls a loss several times on each."""


@dataclass(frozen=True)
class CapturedTrial:
    """A loss, and the micro-batches of a captured step."""

    loss: LossTrial
    batches: tuple[BatchLossInputs, ...]


def checks_on_capture(loss: ComponentLike, capture: Capture, *, options: Mapping[str, Any] | None = None) -> Iterator[Check]:
    """Yield a check of each promise of a loss that captured data can try.

    Args:
        loss: a name, `module:function`, `file.py:function`, or the function or class itself.
        capture: from `read_capture`.
        options: its options; the rest keep their defaults.

    Raises:
        PlugradError: it is not found, does not take these options, or needs what the run did not compute.
    """
    capture.check_has_losses()
    component = component_of(loss, "loss", options)
    trial = LossTrial(component)
    bound = trial.fresh()
    fields = frozenset.intersection(*(update.fields for update in capture.updates))
    lacking = sorted(bound.needs - fields - MADE_UP - {"metadata"})
    if lacking:
        raise PluginError(
            f"{component} cannot be tried on this capture: it needs {' and '.join(lacking)}, which the run did not compute. "
            "Capture a step of a run in which a loss or a metric needs the same; without --on, the check makes it up."
        )
    batches = tuple(_prepared(piece.inputs) for update in capture.updates for piece in update.pieces)
    yield from checks_of_promises(PROMISES, component, CapturedTrial(trial, _first_rows(batches)))


def _prepared(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return captured inputs in float64. What a model gives beside numbers of tokens is left out, so that it is made up."""
    entropy = torch.zeros_like(inputs.trainer_logprobs) if inputs.entropy is None else inputs.entropy
    assert inputs.input_ids is not None
    # Made-up logits have few columns.
    ids = inputs.input_ids % VOCABULARY
    given = replace(inputs, entropy=entropy, input_ids=ids, hidden_states=None, embedding=None, parameters=None)
    return in_dtype(given, torch.double)


def _first_rows(batches: tuple[BatchLossInputs, ...]) -> tuple[BatchLossInputs, ...]:
    kept, left = [], MOST_ROWS
    for batch in batches:
        if left > 0:
            kept.append(rows_of(batch, range(min(left, len(batch.loss_mask)))))
            left -= len(batch.loss_mask)
    return tuple(kept)


def _check_runs(trial: CapturedTrial) -> str:
    lowest, highest, moved = torch.inf, -torch.inf, False
    for inputs in trial.batches:
        try:
            values, gradients = trial.loss.values_and_gradients(inputs)
        except InputsChanged:
            raise NotApplicable("it changes its inputs: see inputs_unchanged") from None
        for what, numbers in (("losses", values), *(("gradients", gradient) for gradient in gradients)):
            if not is_finite(numbers):
                raise Broken(f"{what} of a captured micro-batch are not finite")
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        moved = moved or any(bool(gradient.any()) for gradient in gradients)
    follows = trial.loss.facts.policy_gradient is not False
    if not moved and not (follows and not any(bool(inputs.advantages.any()) for inputs in trial.batches)):
        raise Broken("the gradient with respect to every log-prob and entropy is zero")
    return f"losses from {lowest:.3g} to {highest:.3g}"


def _check_deterministic(trial: CapturedTrial) -> str:
    loss, seed = trial.loss, 0 if trial.loss.facts.mixes_sequences else 1
    again = "Called again on the same batch"
    return [compare_rows(loss.rows(i, seed=seed), loss.rows(i), again) for i in trial.batches][-1]


def _check_inputs_unchanged(trial: CapturedTrial) -> str:
    for inputs in trial.batches:
        try:
            with on_trial(str(trial.loss.component), inputs, LIMIT_S):
                trial.loss.outputs(inputs)
        except InputsChanged as error:
            raise Broken(str(error)) from error
    return "unchanged"


def _check_gradient_flow(trial: CapturedTrial) -> str:
    for inputs in trial.batches:
        _, gradients = trial.loss.values_and_gradients(inputs)
        for name, gradient in zip(("trainer_logprobs", "entropy"), gradients, strict=True):
            astray = gradient[~inputs.loss_mask]
            if bool(astray.any()):
                raise Broken(f"the gradient reaches {int((astray != 0).sum())} masked slots of {name}")
    return "only counted tokens"


def _check_masked_slots(trial: CapturedTrial) -> str:
    what = f"With ±{GARBAGE:g} in the masked slots"
    return [
        compare_rows(trial.loss.rows(with_garbage(inputs, GARBAGE)), trial.loss.rows(inputs), what)
        for inputs in trial.batches
    ][-1]


def _check_padding(trial: CapturedTrial) -> str:
    what = "With five more columns of padding"
    return [compare_rows(trial.loss.rows(padded(inputs, 5)), trial.loss.rows(inputs), what) for inputs in trial.batches][-1]


def _check_micro_batches(trial: CapturedTrial) -> str:
    skip_if_it_mixes(trial.loss)
    seen = ""
    for inputs in trial.batches:
        alone = [row for place in range(len(inputs.loss_mask)) for row in trial.loss.rows(rows_of(inputs, [place]))]
        seen = compare_rows(alone, trial.loss.rows(inputs), "Cut into micro-batches of 1")
    return seen


def _check_row_order(trial: CapturedTrial) -> str:
    if not trial.loss.facts.whole_batch:
        raise NotApplicable("it does not declare whole_batch")
    seen = ""
    for inputs in trial.batches:
        order = list(reversed(range(len(inputs.loss_mask))))
        rows = trial.loss.rows(inputs)
        turned = [trial.loss.rows(rows_of(inputs, order))[place] for place in order]
        found, expected = (
            {name: value for name, value in numbers_of(each).items() if name.startswith("the gradient")}
            for each in (turned, rows)
        )
        seen = compare_numbers(found, expected, "With the sequences in another order")
    return seen


def _check_advantage_sign(trial: CapturedTrial) -> str:
    if trial.loss.facts.policy_gradient is False:
        raise NotApplicable("it declares policy_gradient=False")
    skip_if_it_mixes(trial.loss)
    right = 0
    for inputs in trial.batches:
        _, (gradient, _) = trial.loss.values_and_gradients(inputs)
        without = replace(inputs, advantages=torch.zeros_like(inputs.advantages))
        # A penalty, which pulls without an advantage too, is not part of what follows the advantage.
        _, (penalty, _) = trial.loss.values_and_gradients(without)
        push = (penalty - gradient) * inputs.advantages.sign()
        # A loss of sequences follows the mean of their advantages.
        alike = (inputs.advantages >= 0).all(dim=1, keepdim=True) | (inputs.advantages <= 0).all(dim=1, keepdim=True)
        wrong = ((push < -NEGLIGIBLE) & alike).nonzero().tolist()
        if wrong:
            row, token = wrong[0]
            advantage = float(inputs.advantages[row, token])
            raise Broken(
                f"a token with the advantage {advantage:g} has the gradient {float(gradient[row, token]):.4g}: descending "
                f"on it {'lowers' if advantage > 0 else 'raises'} its log-prob"
            )
        right += int((push > NEGLIGIBLE).sum())
    if not right:
        raise NotApplicable("it does not react to these advantages")
    return f"{right} tokens pushed the right way, none the wrong way"


_KNOWN = {promise.name: promise for promise in (RUNS, DETERMINISTIC, *VALUES, *CUT, *MIXING, *GRADIENTS)}


def _on_captured(name: str, run: Any, after: tuple[str, ...] = ()) -> Promise[CapturedTrial]:
    known = _KNOWN[name]
    return Promise(known.name, known.statement, known.why, known.fix, run, after, known.untested)


PROMISES: tuple[Promise[CapturedTrial], ...] = (
    replace(_on_captured("runs", _check_runs), statement="on the captured batch its value and gradient are finite"),
    _on_captured("deterministic", _check_deterministic),
    _on_captured("inputs_unchanged", _check_inputs_unchanged),
    _on_captured("gradient_flow", _check_gradient_flow, ("deterministic",)),
    _on_captured("masked_slots", _check_masked_slots, ("deterministic", "gradient_flow")),
    _on_captured("padding", _check_padding, ("deterministic",)),
    _on_captured("micro_batches", _check_micro_batches, ("deterministic", "padding")),
    _on_captured("row_order", _check_row_order, ("deterministic", "padding")),
    _on_captured("advantage_sign", _check_advantage_sign, ("deterministic",)),
)
