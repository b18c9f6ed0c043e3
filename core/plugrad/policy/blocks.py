"""Compute logits one block at a time in reused buffers, so that full-vocabulary logits are never materialised."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad.policy.score_kernels import Scaling, ScoreKernels

EntropyMode = Literal["none", "value", "gradient"]

BLOCK_ELEMENTS = {"cpu": 2**21}
"""Logits per block, by device. 8 MB of float32 stay in a CPU's cache between two passes over the block."""
OTHER_BLOCK_ELEMENTS = 2**26
"""Logits per block on an accelerator. A block's matrix products must take longer than their launch."""
IMPOSSIBLE = -1e4
"""Lower bound for differences of logits. Its exponential is 0 even in float64, and 0 * -inf would be NaN."""


@dataclass(frozen=True)
class Plan:
    """The computation: a softmax of z = slope * logits, or of z = bound * tanh(slope / bound * logits)."""

    slope: float
    bound: float | None
    entropy: EntropyMode
    product_dtype: torch.dtype
    """Data type of the inputs and outputs of matrix products."""
    gradient_in_forward: bool
    """Whether the forward pass computes the gradient, which it does if only the hidden states have one."""
    kernels: ScoreKernels | None = None
    """What works on blocks of logits in place of PyTorch, if anything. They stay in `product_dtype`."""

    @property
    def energy_in_forward(self) -> bool:
        """Whether the forward pass computes the entropy's gradient."""
        return self.gradient_in_forward and self.entropy == "gradient"

    @property
    def sum_dtype(self) -> torch.dtype:
        """Data type of z and of every sum: float32 at least."""
        return torch.promote_types(self.product_dtype, torch.float32)

    @property
    def scaling(self) -> Scaling:
        """How z follows from logits."""
        return Scaling(self.slope, self.bound)

    def head_block(self, weight: Tensor, bias: Tensor | None, columns: slice) -> tuple[Tensor, Tensor | None]:
        """Return a block of the head's weight and bias in `product_dtype`. The whole head is never copied."""
        block_bias = None if bias is None else bias[columns].to(self.product_dtype)
        return weight[columns].to(self.product_dtype), block_bias

    def scale_(self, logits: Tensor) -> Tensor:
        """Turn logits into z, in place."""
        if self.bound is None:
            return logits if self.slope == 1 else logits.mul_(self.slope)
        return logits.mul_(self.slope / self.bound).tanh_().mul_(self.bound)

    def flatness(self, z: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"] | None:
        """Return dz/dlogits over `slope`, or None if it is 1 (no soft-capping)."""
        return None if self.bound is None else (z / self.bound).square_().neg_().add_(1)


class Workspace:
    """Buffers for one block of logits."""

    def __init__(self, plan: Plan, hidden: Float[Tensor, "tokens hidden"], vocab: int) -> None:
        elements = BLOCK_ELEMENTS.get(hidden.device.type, OTHER_BLOCK_ELEMENTS)
        # Nearly square: products with thin blocks are bound by memory.
        self.num_rows = max(1, min(len(hidden), math.isqrt(elements)))
        self.num_columns = min(vocab, elements // self.num_rows)
        self.plan = plan
        self._product = hidden.new_empty(self.num_rows * self.num_columns, dtype=plan.product_dtype)
        z_dtype = plan.sum_dtype if plan.kernels is None else plan.product_dtype
        self._z = self._product if plan.product_dtype == z_dtype else self._another(z_dtype)
        needs_spare = plan.entropy != "none" if plan.kernels is None else plan.energy_in_forward
        self._spare = self._another(z_dtype) if needs_spare else self._z

    def z(
        self,
        hidden: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "columns hidden"],
        bias: Float[Tensor, "columns"] | None,
    ) -> Float[Tensor, "rows columns"]:
        """Return one block of z, or of logits for kernels. The next call overwrites its buffer."""
        product = self._shaped(self._product, len(hidden), len(weight))
        if bias is None:
            torch.mm(hidden, weight.t(), out=product)
        else:
            torch.addmm(bias, hidden, weight.t(), out=product)
        if self.plan.kernels is not None:
            return product
        if self._z is self._product:
            return self.plan.scale_(product)
        return self.plan.scale_(self._shaped(self._z, *product.shape).copy_(product))

    def spare(self, block: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Return a second buffer of the block's shape. Without entropy it is the block's own buffer."""
        return self._shaped(self._spare, *block.shape)

    def as_factor(self, block: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
        """Return the block in `product_dtype`. This overwrites the logits behind z."""
        if block.dtype == self.plan.product_dtype:
            return block
        return self._shaped(self._product, *block.shape).copy_(block)

    def rows(self, num_tokens: int) -> Iterator[slice]:
        """Yield blocks of tokens. Without tokens, yield one empty block."""
        return _slices(num_tokens, self.num_rows)

    def columns(self, vocab: int) -> Iterator[slice]:
        """Yield blocks of the vocabulary."""
        return _slices(vocab, self.num_columns)

    def _another(self, dtype: torch.dtype) -> Tensor:
        return torch.empty_like(self._product, dtype=dtype)

    @staticmethod
    def _shaped(buffer: Tensor, num_rows: int, num_columns: int) -> Tensor:
        return buffer[: num_rows * num_columns].view(num_rows, num_columns)


def product_dtype_of(hidden: Tensor) -> torch.dtype:
    """Return the data type of matrix products of these hidden states: their own, or autocast's."""
    device = hidden.device.type
    # Autocast does not change float64.
    if hidden.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, which may be more precise than its terms."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, max(length, 1), size))
