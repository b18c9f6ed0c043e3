"""Promises about losses that see the whole batch: the order of its rows, and batches with nothing to compare."""

from __future__ import annotations

from collections.abc import Iterator

from plugrad.contracts.loss import BatchLossInputs
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.cuts import ORDER
from plugrad.testing.losses.loss_trial import LossTrial, Row, numbers_of
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, rows_of, with_row_advantages
from plugrad.testing.numbers import Numbers, are_same, compare_numbers, is_finite

SEEDS = range(1, 6)
"""If a loss draws, one of them gives another value than the seed 0."""
OF_ONE_PROMPT, OF_DIFFERENT_PROMPTS, ALONE, SHORTEST = (0, 1, 2), (0, 3, 5), (0,), (4,)


def _check_row_order(loss: LossTrial) -> str:
    _skip_unless_whole_batch(loss)
    inputs = draw_micro_batch()
    rows = loss.rows(inputs)
    if not all(are_same(numbers_of(loss.rows(inputs, seed=seed)), numbers_of(rows)) for seed in SEEDS):
        raise NotApplicable("it draws random numbers")
    turned = loss.rows(rows_of(inputs, ORDER))
    return compare_numbers(_of_batch(turned), _of_batch([rows[row] for row in ORDER]), "With the sequences in another order")


def _of_batch(rows: list[Row]) -> Numbers:
    """Return the sum over the rows, and the gradient of each token."""
    gradients = {name: value for name, value in numbers_of(rows).items() if name.startswith("the gradient")}
    return {"the sum over the sequences": sum(row.value for row in rows), **gradients}


def _check_nothing_to_compare(loss: LossTrial) -> str:
    _skip_unless_whole_batch(loss)
    for which, inputs in _batches_without_a_comparison():
        values, gradients = loss.values_and_gradients(inputs)
        for what, numbers in (("value", values), *(("gradient", gradient) for gradient in gradients)):
            if not is_finite(numbers):
                raise Broken(f"in a batch of {which}, its {what} is not finite")
    return "finite"


def _batches_without_a_comparison() -> Iterator[tuple[str, BatchLossInputs]]:
    inputs = draw_micro_batch()
    yield "one sequence", rows_of(inputs, ALONE)
    yield "one token", rows_of(inputs, SHORTEST)
    yield "sequences of one prompt", rows_of(inputs, OF_ONE_PROMPT)
    yield "sequences of different prompts", rows_of(inputs, OF_DIFFERENT_PROMPTS)
    yield "equal sequences", rows_of(inputs, [0] * len(LENGTHS))
    for advantage in (1.0, 0.0):
        yield f"sequences with the advantage {advantage:g} each", with_row_advantages(inputs, [advantage] * len(LENGTHS))


def _skip_unless_whole_batch(loss: LossTrial) -> None:
    if not loss.facts.whole_batch:
        raise NotApplicable("it does not declare whole_batch")


MIXING: tuple[Promise[LossTrial], ...] = (
    Promise(
        "row_order",
        "for a loss of the whole batch, the order of sequences does not matter",
        "Which rollout of a prompt comes first carries no information, and no run should depend on it.",
        "Do not use a row's index, or the row beside it. inputs.group_ids and inputs.metadata show what belongs together.",
        _check_row_order,
        after=("padding",),
    ),
    Promise(
        "nothing_to_compare",
        "a loss of the whole batch is finite where there is nothing to compare",
        "A batch may hold one sequence, no positive, equal sequences or equal advantages. The mean of nothing, the log of "
        "an empty sum and the slope of a standard deviation of 0 are not finite, which ends a run.",
        "Return 0 there: divide by count.clamp(min=1), add a small number below a square root, and choose with torch.where "
        "between numbers that are finite.",
        _check_nothing_to_compare,
        after=("runs",),
    ),
)
