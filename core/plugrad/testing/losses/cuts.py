"""Promises about the cut: the other sequences of a micro-batch, and masked slots, must not matter."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.loss_trial import LossTrial, Row, compare_rows
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, padded, rows_of, with_garbage
from plugrad.testing.numbers import is_finite

CUTS = ([3, 4], [2, 2, 3], [1, 1, 1, 1, 1, 1, 1])
ORDER = (4, 2, 6, 0, 5, 1, 3)
GARBAGE = (1.0, 30.0)

REMEDY = (
    "Most often the loss divides by loss_mask.sum(), or takes a mean, over its micro-batch. Return the values per token, or "
    "their sum per sequence, and let `reduction` divide by the counts of the whole batch. A loss that must see several "
    "sequences at once declares @loss(cut_dependent=True)."
)


def _check_masked_slots(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    expected = loss.rows(inputs)
    seen = [
        compare_rows(loss.rows(with_garbage(inputs, garbage)), expected, f"With ±{garbage:g} in the masked slots")
        for garbage in GARBAGE
    ]
    return seen[-1]


def _check_masked_nan(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    return compare_rows(loss.rows(with_garbage(inputs, math.nan)), loss.rows(inputs), "With NaN in the masked slots")


def _check_gradient_flow(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    _, gradients = loss.values_and_gradients(inputs)
    for name, gradient in zip(("trainer_logprobs", "entropy"), gradients, strict=True):
        astray = gradient.masked_fill(inputs.loss_mask, 0.0).abs()
        if not is_finite(gradient) or bool(astray.any()):
            raise Broken(f"the gradient reaches {int((astray != 0).sum())} masked slots of {name}")
    if not loss.facts.cut_dependent:
        _no_gradient_into_other_rows(loss, inputs)
    return "only counted tokens of its own sequence"


def _no_gradient_into_other_rows(loss: LossTrial, inputs: BatchLossInputs) -> None:
    leaf = inputs.trainer_logprobs.clone().requires_grad_()
    outputs = loss.outputs(replace(inputs, trainer_logprobs=leaf))
    for row, value in enumerate(outputs.loss.reshape(len(LENGTHS), -1).sum(dim=1)):
        if not value.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        reached = [other for other in range(len(LENGTHS)) if other != row and bool(gradient[other].any())]
        if reached:
            raise Broken(f"the loss of sequence {row} has a gradient with respect to the log-probs of sequence {reached[0]}")


def _check_padding(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    return compare_rows(loss.rows(padded(inputs, 5)), loss.rows(inputs), "With five more columns of padding")


def _check_permutation(loss: LossTrial) -> str:
    skip_if_cut_dependent(loss)
    inputs = draw_micro_batch()
    expected = loss.rows(inputs)
    turned = loss.rows(rows_of(inputs, ORDER))
    return compare_rows(turned, [expected[row] for row in ORDER], "With the sequences in another order")


def _check_micro_batches(loss: LossTrial) -> str:
    skip_if_cut_dependent(loss)
    inputs = draw_micro_batch()
    whole, seen = loss.rows(inputs), ""
    for sizes in CUTS:
        parts = torch.arange(len(LENGTHS)).split(list(sizes))
        rows: list[Row] = [row for part in parts for row in loss.rows(rows_of(inputs, part.tolist()))]
        seen = compare_rows(rows, whole, f"Cut into micro-batches of {', '.join(map(str, sizes))}")
    return seen


def skip_if_cut_dependent(loss: LossTrial) -> None:
    """Raise NotApplicable if a loss declares that it mixes sequences."""
    if loss.facts.cut_dependent:
        raise NotApplicable("it declares cut_dependent")


CUT: tuple[Promise[LossTrial], ...] = (
    Promise(
        "gradient_flow",
        "the gradient of a sequence reaches only its own counted tokens",
        "Prompt and padding were not sampled. A gradient there trains the model on text that it never produced.",
        "Multiply by inputs.loss_mask before any sum. Do not index or shift across rows.",
        _check_gradient_flow,
    ),
    Promise(
        "masked_slots",
        "the contents of masked slots change nothing",
        "Prompt and padding slots hold meaningless numbers, and other ones in another micro-batch.",
        "Sum with the mask, as in (per_token * inputs.loss_mask).sum(), and average over counted tokens only.",
        _check_masked_slots,
    ),
    Promise(
        "padding",
        "more padding changes nothing",
        "A micro-batch is as wide as its longest sequence.",
        "Count with inputs.loss_mask, never with shape[-1] or mean(dim=-1).",
        _check_padding,
    ),
    Promise(
        "permutation",
        "the order of sequences does not matter",
        "Sequences are sorted by length to save padding. The order carries no information.",
        "Do not use a row's index. inputs.group_ids shows which rollouts belong together.",
        _check_permutation,
    ),
    Promise(
        "micro_batches",
        "a sequence has the same loss and gradient in every micro-batch",
        "The cut follows from memory and from the number of processes. It must not change what is learned.",
        REMEDY,
        _check_micro_batches,
    ),
)
STRICT: tuple[Promise[LossTrial], ...] = (
    Promise(
        "masked_nan",
        "even NaN in masked slots changes nothing",
        "plugrad fills masked slots with zeros. Other training loops may not.",
        "Apply torch.where(inputs.loss_mask, x, 0.0) to the inputs before computing with them: NaN * 0 is NaN.",
        _check_masked_nan,
    ),
)
