"""One block of logits at a time, in buffers that are used again: for the functions that never hold all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

EntropyMode = Literal["none", "value", "gradient"]

BLOCK_ELEMENTS = {"cpu": 2**21}
"""How many logits exist at once, by device: 8 MB in float32 stay in a CPU's cache from one pass over them to the next."""
OTHER_BLOCK_ELEMENTS = 2**26
"""On an accelerator the products of a block must take longer than their launch."""
IMPOSSIBLE = -1e4
"""Its exponential is 0, in float64 too: where differences of logits end, since 0 * -inf would be NaN."""


@dataclass(frozen=True)
class Plan:
    """What is computed: the softmax of z = slope * logits, or of z = bound * tanh(slope / bound * logits)."""

    slope: float
    bound: float | None
    entropy: EntropyMode
    product_dtype: torch.dtype
    """Of the factors of matrix products, and of the logits as they come out of one."""
    gradient_in_forward: bool
    """Whether the forward pass forms the gradient: where only the hidden states have one."""

    @property
    def sum_dtype(self) -> torch.dtype:
        """Of z and of every sum: float32 at least."""
        return torch.promote_types(self.product_dtype, torch.float32)

    def head_block(self, weight: Tensor, bias: Tensor | None, columns: slice) -> tuple[Tensor, Tensor | None]:
        """Return a block of the head's weight and bias in the dtype of products: the whole head is never copied."""
        block_bias = None if bias is None else bias[columns].to(self.product_dtype)
        return weight[columns].to(self.product_dtype), block_bias

    def scale_(self, logits: Tensor) -> Tensor:
        """Turn logits into z, in place."""
        if self.bound is None:
            return logits if self.slope == 1 else logits.mul_(self.slope)
        return logits.mul_(self.slope / self.bound).tanh_().mul_(self.bound)

    def flatness(self, z: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"] | None:
        """Return dz/dlogits over `slope`; None where it is 1, without soft-capping."""
        return None if self.bound is None else (z / self.bound).square_().neg_().add_(1)


class Workspace:
    """Buffers for one block of logits."""

    def __init__(self, plan: Plan, hidden: Float[Tensor, "tokens hidden"], vocab: int) -> None:
        elements = BLOCK_ELEMENTS.get(hidden.device.type, OTHER_BLOCK_ELEMENTS)
        # Near to a square: a product with a thin block moves more than it computes.
        self.num_rows = max(1, min(len(hidden), math.isqrt(elements)))
        self.num_columns = min(vocab, elements // self.num_rows)
        self.plan = plan
        self._product = hidden.new_empty(self.num_rows * self.num_columns, dtype=plan.product_dtype)
        self._z = self._product if plan.product_dtype == plan.sum_dtype else self._another(plan.sum_dtype)
        self._spare = self._z if plan.entropy == "none" else self._another(plan.sum_dtype)

    def z(
        self,
        hidden: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "columns hidden"],
        bias: Float[Tensor, "columns"] | None,
    ) -> Float[Tensor, "rows columns"]:
        """Return one block of z, in a buffer that the next call overwrites."""
        product = self._shaped(self._product, len(hidden), len(weight))
        if bias is None:
            torch.mm(hidden, weight.t(), out=product)
        else:
            torch.addmm(bias, hidden, weight.t(), out=product)
        if self._z is self._product:
            return self.plan.scale_(product)
        return self.plan.scale_(self._shaped(self._z, *product.shape).copy_(product))

    def spare(self, block: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Return a second buffer of the block's shape. Where there is no entropy to compute it is the block's own."""
        return self._shaped(self._spare, *block.shape)

    def as_factor(self, block: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Return the block in the dtype of matrix products. The logits that z was made from are overwritten."""
        if block.dtype == self.plan.product_dtype:
            return block
        return self._shaped(self._product, *block.shape).copy_(block)

    def rows(self, num_tokens: int) -> Iterator[slice]:
        """Yield blocks of tokens, and an empty one where there are no tokens."""
        return _slices(num_tokens, self.num_rows)

    def columns(self, vocab: int) -> Iterator[slice]:
        """Yield blocks of the vocabulary."""
        return _slices(vocab, self.num_columns)

    def _another(self, dtype: torch.dtype) -> Tensor:
        return torch.empty_like(self._product, dtype=dtype)

    @staticmethod
    def _shaped(buffer: Tensor, num_rows: int, num_columns: int) -> Tensor:
        return buffer[: num_rows * num_columns].view(num_rows, num_columns)


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, where `total` may be more precise than its terms."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, max(length, 1), size))
