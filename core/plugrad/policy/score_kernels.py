"""Choose between PyTorch and Triton for what is done to each block of logits."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

logger = logging.getLogger("plugrad")

SWITCH = "PLUGRAD_TRITON"
"""Set to 0 in the environment, it keeps every block in PyTorch."""
DEVICES = {"cuda"}
DTYPES = {torch.bfloat16, torch.float16, torch.float32}
"""Of matrix products. Sums are float32 in the kernels, and float64 products need float64 sums."""
LARGEST_PART = 4096
"""Logits that one pass of a kernel holds in registers."""
NUM_WARPS = 8


@dataclass(frozen=True)
class Scaling:
    """z = slope * logits, or bound * tanh(slope / bound * logits)."""

    slope: float
    bound: float | None

    @property
    def inner(self) -> float:
        """What logits are multiplied by first."""
        return self.slope if self.bound is None else self.slope / self.bound


@dataclass(frozen=True)
class ScoreKernels:
    """What Triton does to a block of logits, which are in the dtype of matrix products."""

    triton: ModuleType

    def add(
        self,
        logits: Float[Tensor, "rows columns"],
        places: Int[Tensor, "rows"],
        sums: tuple[Tensor, Tensor, Tensor, Tensor],
        scaling: Scaling,
        *,
        entropy: bool,
        terms: bool,
        energy_terms: Float[Tensor, "rows columns"] | None,
    ) -> None:
        """Add a block to `sums`: peak, total, energy and chosen of `online_softmax.Sums`.

        Args:
            places: the targets, counted from the block's first column.
            entropy: whether the energy is wanted.
            terms: whether the block becomes exp(z - peak) dz/dlogits / slope.
            energy_terms: what becomes that times z - peak, if wanted.
        """
        if not len(logits):
            return
        columns = logits.shape[1]
        self.triton.add_block[(len(logits),)](
            *(logits, logits if energy_terms is None else energy_terms, places, *sums, columns),
            *(scaling.inner, scaling.bound or 1.0),
            CAPPED=scaling.bound is not None,
            ENTROPY=entropy,
            TERMS=terms,
            ENERGY_TERMS=energy_terms is not None,
            COLUMNS=_part(columns),
            num_warps=NUM_WARPS,
        )

    def differentiate(
        self,
        logits: Float[Tensor, "rows columns"],
        places: Int[Tensor, "rows"],
        normalizer: Float[Tensor, "rows"],
        entropy: Float[Tensor, "rows"] | None,
        by_logprob: Float[Tensor, "rows"],
        by_entropy: Float[Tensor, "rows"] | None,
        scaling: Scaling,
    ) -> None:
        """Turn a block of logits into the loss's gradient by them."""
        if not len(logits):
            return
        columns = logits.shape[1]
        part = _part(columns)
        by_logprob = by_logprob.contiguous()
        both = entropy is not None and by_entropy is not None
        self.triton.differentiate_block[(len(logits), -(-columns // part))](
            *(logits, places, normalizer, entropy if both else normalizer, by_logprob),
            by_entropy.contiguous() if both and by_entropy is not None else by_logprob,
            *(columns, scaling.slope, scaling.inner, scaling.bound or 1.0),
            CAPPED=scaling.bound is not None,
            ENTROPY=both,
            COLUMNS=part,
            num_warps=NUM_WARPS,
        )


def score_kernels(device: torch.device, product_dtype: torch.dtype) -> ScoreKernels | None:
    """Return Triton's kernels, or None where PyTorch is to do their work: on a CPU, in float64, or without Triton."""
    if device.type not in DEVICES or product_dtype not in DTYPES or os.environ.get(SWITCH) == "0":
        return None
    return _tried(device)


@lru_cache
def _tried(device: torch.device) -> ScoreKernels | None:
    """Return the kernels if they run here. Triton compiles them first, which takes a C compiler and a recent device."""
    if find_spec("triton") is None:
        return None
    try:
        from plugrad.policy import triton_kernels

        kernels = ScoreKernels(triton_kernels)
        _try(kernels, device)
    except Exception as error:
        found = f"{type(error).__name__}: {error}".strip().split("\n", maxsplit=1)[0]
        logger.warning(
            "Triton's kernels for log-probs do not run here, so PyTorch does their work, more slowly. %s. "
            "Set %s=0 in the environment to use PyTorch without this message.",
            *(found, SWITCH),
        )
        return None
    return kernels


def _try(kernels: ScoreKernels, device: torch.device) -> None:
    """Score two tokens over three logits, and differentiate."""
    logits = torch.tensor([[0.0, 1.0, 2.0], [2.0, 0.0, -2.0]], device=device)
    expected = logits.softmax(dim=1)
    peak, total, energy, chosen = (torch.zeros(2, device=device) for _ in range(4))
    places, scaling = torch.tensor([1, 2], device=device), Scaling(1.0, None)
    sums = peak, total, energy, chosen
    kernels.add(logits, places, sums, scaling, entropy=True, terms=False, energy_terms=None)
    normalizer, weight = peak + total.log(), torch.ones(2, device=device)
    kernels.differentiate(logits, places, normalizer, None, weight, None, scaling)
    found = torch.nn.functional.one_hot(places, 3) - logits
    if not torch.allclose(found, expected, rtol=0.0, atol=1e-5):
        raise ArithmeticError(f"a softmax of {expected.tolist()} came out as {found.tolist()}")


def _part(columns: int) -> int:
    return min(LARGEST_PART, 1 << max(columns - 1, 15).bit_length())
