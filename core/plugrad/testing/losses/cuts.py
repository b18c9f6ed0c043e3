"""Promises about the cut: the other sequences of a micro-batch, and masked slots, must not matter."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.loss_trial import LossTrial, Row, compare_rows, name_of
from plugrad.testing.losses.trial_micro_batches import (
    LENGTHS,
    draw_micro_batch,
    padded,
    rows_of,
    with_garbage,
    with_longer_prompts,
)
from plugrad.testing.numbers import TOLERANCE, is_finite

CUTS = ([3, 4], [2, 2, 3], [1, 1, 1, 1, 1, 1, 1])
ORDER = (4, 2, 6, 0, 5, 1, 3)
GARBAGE = (1.0, 30.0, 1e3, 1e30)
GARBAGE_IN_FLOAT32 = (1.0, 30.0, 1e3)
"""Beyond, a product of two of them is infinite: those are strict."""
IN_FLOAT32 = 1e-5

REMEDY = (
    "Most often the loss divides by loss_mask.sum(), or takes a mean, over its micro-batch. Return the values per token, or "
    "their sum per sequence, and let `reduction` divide by the counts of the whole batch. A loss that must see several "
    "sequences at once declares @loss(whole_batch=True)."
)


def _check_masked_slots(loss: LossTrial) -> str:
    seen = [_compare_garbage(loss, garbage, torch.double) for garbage in GARBAGE]
    seen += [_compare_garbage(loss, garbage, torch.float) for garbage in GARBAGE_IN_FLOAT32]
    return seen[0]


def _check_masked_nan(loss: LossTrial) -> str:
    seen = [_compare_garbage(loss, garbage, torch.float) for garbage in (math.nan, math.inf, 1e30)]
    return seen[0]


def _compare_garbage(loss: LossTrial, garbage: float, dtype: torch.dtype) -> str:
    """Compare values and gradients with garbage and with zeros in the masked slots. There the gradient must be 0."""
    clean = draw_micro_batch(dtype=dtype)
    spoilt = with_garbage(clean, garbage)
    what = f"With {f'±{garbage:g}' if math.isfinite(garbage) else garbage} in the masked slots, in {name_of(dtype)}"
    tolerance = TOLERANCE if dtype is torch.double else IN_FLOAT32
    seen = compare_rows(loss.rows(spoilt), loss.rows(clean), what, tolerance)
    _, gradients = loss.values_and_gradients(spoilt)
    # The derivative of a product with NaN is NaN, whatever follows: only filling the inputs helps, as plugrad does.
    for name, gradient in zip(("trainer_logprobs", "entropy"), gradients if math.isfinite(garbage) else [], strict=False):
        astray = gradient[~clean.loss_mask]
        if not is_finite(astray) or bool(astray.any()):
            worst = "is NaN" if bool(astray.isnan().any()) else f"is up to {float(astray.abs().max()):.3g}"
            raise Broken(f"{what}, the gradient with respect to masked slots of {name} {worst}")
    return seen


def _check_gradient_flow(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    _, gradients = loss.values_and_gradients(inputs)
    for name, gradient in zip(("trainer_logprobs", "entropy"), gradients, strict=True):
        astray = gradient.masked_fill(inputs.loss_mask, 0.0).abs()
        if not is_finite(gradient) or bool(astray.any()):
            raise Broken(f"the gradient reaches {int((astray != 0).sum())} masked slots of {name}")
    return "only counted tokens"


def _check_own_sequence(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    inputs = draw_micro_batch()
    leaf = inputs.trainer_logprobs.clone().requires_grad_()
    outputs = loss.outputs(replace(inputs, trainer_logprobs=leaf))
    for row, value in enumerate(outputs.loss.reshape(len(LENGTHS), -1).sum(dim=1)):
        if not value.requires_grad:
            continue
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        reached = [other for other in range(len(LENGTHS)) if other != row and bool(gradient[other].any())]
        if reached:
            raise Broken(f"the loss of sequence {row} has a gradient with respect to the log-probs of sequence {reached[0]}")
    return "no gradient into other sequences"


def _check_padding(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    whole = loss.rows(inputs)
    seen = compare_rows(loss.rows(padded(inputs, 5)), whole, "With five more columns of padding")
    compare_rows(loss.rows(with_longer_prompts(inputs, 5)), whole, "With five more tokens in each prompt")
    return seen


def _check_permutation(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    inputs = draw_micro_batch()
    expected = loss.rows(inputs)
    turned = loss.rows(rows_of(inputs, ORDER))
    return compare_rows(turned, [expected[row] for row in ORDER], "With the sequences in another order")


def _check_micro_batches(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    inputs = draw_micro_batch()
    whole, seen = loss.rows(inputs), ""
    for sizes in CUTS:
        parts = torch.arange(len(LENGTHS)).split(list(sizes))
        rows: list[Row] = [row for part in parts for row in loss.rows(rows_of(inputs, part.tolist()))]
        seen = compare_rows(rows, whole, f"Cut into micro-batches of {', '.join(map(str, sizes))}")
    return seen


def skip_if_it_mixes(loss: LossTrial) -> None:
    """Raise NotApplicable if a loss declares that it mixes sequences."""
    if loss.facts.mixes_sequences:
        raise NotApplicable(f"it declares {'whole_batch' if loss.facts.whole_batch else 'cut_dependent'}")


CUT: tuple[Promise[LossTrial], ...] = (
    Promise(
        "gradient_flow",
        "the gradient reaches counted tokens only",
        "Prompt and padding were not sampled. A gradient there trains the model on text that it never produced.",
        "Multiply by inputs.loss_mask before any sum.",
        _check_gradient_flow,
    ),
    Promise(
        "masked_slots",
        "the contents of masked slots change nothing",
        "Prompt and padding slots hold meaningless numbers, and other ones in another micro-batch.",
        "Put log_ratio = torch.where(inputs.loss_mask, log_ratio, 0.0) before exp: an infinite number times 0 is NaN, and "
        "so is its gradient. plugrad.finite_exp stays finite too. Sum counted tokens only: (per_token * "
        "inputs.loss_mask).sum().",
        _check_masked_slots,
        after=("gradient_flow",),
    ),
    Promise(
        "padding",
        "more padding changes nothing, nor does a longer prompt",
        "A micro-batch is as wide as its longest sequence, and prompts of any length come before what counts.",
        "Count with inputs.loss_mask, never with shape[-1], len() or mean().",
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
        after=("padding", "permutation"),
    ),
    Promise(
        "own_sequence",
        "the gradient of a sequence's loss reaches no other sequence",
        "Which sequences share a micro-batch follows from memory. A gradient into another one teaches it by chance.",
        "Do not index, shift or roll across rows.",
        _check_own_sequence,
        after=("micro_batches",),
    ),
)
STRICT: tuple[Promise[LossTrial], ...] = (
    Promise(
        "masked_nan",
        "even NaN, infinity and 1e30 in masked slots change nothing",
        "plugrad fills masked slots with zeros. Other training loops may not.",
        "Apply torch.where(inputs.loss_mask, x, 0.0) to the inputs before computing with them: NaN * 0 is NaN.",
        _check_masked_nan,
        after=("masked_slots",),
    ),
)
