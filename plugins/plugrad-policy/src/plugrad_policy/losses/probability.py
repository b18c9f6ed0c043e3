"""The probability of a token, for trust regions on probabilities."""

from __future__ import annotations

from torch import Tensor


def probability(logprobs: Tensor) -> Tensor:
    """Return exp(logprobs), detached, and at most 1: a corrupt token's log-prob can be any number above 0."""
    return logprobs.detach().exp().clamp(max=1.0)
