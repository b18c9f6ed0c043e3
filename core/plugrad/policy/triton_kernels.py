"""Triton kernels over one block of logits: the running sums of a softmax, and the gradient in place.

A block is read once to sum it and once to turn it into its gradient, in its own dtype; every value between is float32. The
matrix products around them stay PyTorch's, as in Liger's and TRL's kernels. Only `score_kernels` imports this module: it
needs Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e4)
"""`blocks.IMPOSSIBLE`: the lower bound for differences of logits."""
NEAR_ZERO = tl.constexpr(0.25)
"""Below, the quotient of exponentials loses digits of tanh, and four terms of its series have all of float32's."""


@triton.jit
def tanh(x):
    """Return the hyperbolic tangent. Triton has none that all its back ends share."""
    square = x * x
    near = x * (1 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835)))))
    far = 2 / (1 + tl.exp(-2 * x)) - 1
    return tl.where(tl.abs(x) < NEAR_ZERO, near, far)


@triton.jit
def z_of(logits, inner, bound, CAPPED: tl.constexpr):
    """Return z = inner * logits, or bound * tanh(inner * logits), in float32."""
    z = logits.to(tl.float32) * inner
    if CAPPED:
        z = bound * tanh(z)
    return z


@triton.jit
def above_lowest(difference):
    """Return the difference of two z, at least `LOWEST`. `tl.maximum` would turn NaN into it."""
    return tl.where(difference < LOWEST, LOWEST, difference)


@triton.jit
def flatness_of(z, bound):
    """Return the slope of bound * tanh(x / bound) where it is z."""
    share = z / bound
    return 1 - share * share


@triton.jit
def write_terms(
    logits,
    energy_terms,
    start,
    num_columns,
    highest,
    inner,
    bound,
    CAPPED: tl.constexpr,
    ENERGY_TERMS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Turn a row of logits into exp(z - highest) dz/dlogits, and write that times z - highest."""
    for first in range(0, num_columns, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        inside = columns < num_columns
        z = z_of(tl.load(logits + start + columns, mask=inside, other=0.0), inner, bound, CAPPED)
        difference = above_lowest(z - highest)
        terms = tl.exp(difference)
        if CAPPED:
            terms = terms * flatness_of(z, bound)
        tl.store(logits + start + columns, terms.to(logits.dtype.element_ty), mask=inside)
        if ENERGY_TERMS:
            tl.store(energy_terms + start + columns, (terms * difference).to(logits.dtype.element_ty), mask=inside)


@triton.jit
def add_block(
    logits,
    energy_terms,
    places,
    peak,
    total,
    energy,
    chosen,
    num_columns,
    inner,
    bound,
    CAPPED: tl.constexpr,
    ENTROPY: tl.constexpr,
    TERMS: tl.constexpr,
    ENERGY_TERMS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add a row of a block to its sums: total = sum exp(z - peak), energy = sum exp(z - peak) (z - peak), chosen = z_target.

    With TERMS, the block becomes exp(z - peak) dz/dlogits, and with ENERGY_TERMS another block that times z - peak: the
    factors of the gradients that a frozen head's forward pass forms.
    """
    row = tl.program_id(0).to(tl.int64)
    start = row * num_columns
    highest, so_far, weighted = tl.load(peak + row), tl.load(total + row), tl.load(energy + row)
    for first in range(0, num_columns, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        inside = columns < num_columns
        z = z_of(tl.load(logits + start + columns, mask=inside, other=0.0), inner, bound, CAPPED)
        before, highest = highest, tl.maximum(highest, tl.max(tl.where(inside, z, float("-inf")), axis=0))
        change = above_lowest(before - highest)
        difference = above_lowest(z - highest)
        terms = tl.where(inside, tl.exp(difference), 0.0)
        if ENTROPY:
            weighted = (weighted + change * so_far) * tl.exp(change) + tl.sum(terms * difference, axis=0)
        so_far = so_far * tl.exp(change) + tl.sum(terms, axis=0)
    place = tl.load(places + row)
    here = (place >= 0) & (place < num_columns)
    found = tl.load(logits + start + place, mask=here, other=0.0)
    tl.store(chosen + row, z_of(found, inner, bound, CAPPED), mask=here)
    tl.store(peak + row, highest)
    tl.store(total + row, so_far)
    if ENTROPY:
        tl.store(energy + row, weighted)
    if TERMS:
        # All threads must have read the target before it is overwritten.
        tl.debug_barrier()
        write_terms(logits, energy_terms, start, num_columns, highest, inner, bound, CAPPED, ENERGY_TERMS, COLUMNS)


@triton.jit
def differentiate_block(
    logits,
    places,
    normalizer,
    entropy,
    by_logprob,
    by_entropy,
    num_columns,
    slope,
    inner,
    bound,
    CAPPED: tl.constexpr,
    ENTROPY: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Turn a block of logits into the loss's gradient by them.

    d logprob / dz = onehot - p and d entropy / dz = -p (log p + entropy).
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside, places_of_block = columns < num_columns, row * num_columns + columns
    z = z_of(tl.load(logits + places_of_block, mask=inside, other=0.0), inner, bound, CAPPED)
    at_target = slope * tl.load(by_logprob + row)
    difference = above_lowest(z - tl.load(normalizer + row))
    probabilities = tl.exp(difference)
    if ENTROPY:
        by_row = slope * tl.load(by_entropy + row)
        rest = at_target + by_row * tl.load(entropy + row)
        found = (-by_row * difference - rest) * probabilities
    else:
        found = -at_target * probabilities
    found += tl.where(columns == tl.load(places + row), at_target, 0.0)
    if CAPPED:
        found = found * flatness_of(z, bound)
    tl.store(logits + places_of_block, found.to(logits.dtype.element_ty), mask=inside)
