"""Metrics: convert what foreign losses report besides their scalar into measures that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from plugrad import ContractError, Max, Mean, Measure, Min, Sum
from plugrad_compat.adapters.notices import notice

Are = Literal["means", "per token", "per sequence", "counts"]
""""means": means over tokens. "per token", "per sequence": sums to be divided by that count, which is 1 here. "counts":
sums that are never divided.
"""


@dataclass(frozen=True)
class Metrics:
    """How the metrics of a loss add up.

    Names that end in `_min`, `_max` or `_sum`, or start with `num_`, decide by themselves, as in the systems: see
    SkyRL's `reduce_metrics`, and the extrema and counts in `nemo_rl/algorithms/loss/wrapper.py`.
    """

    are: Are = "means"
    by_name: Mapping[str, Are] = field(default_factory=dict)
    """The metrics for which the loss states it explicitly."""

    def numbers(self, metrics: Mapping[str, Any], target: str, style: str) -> dict[str, Any]:
        """Return each metric as a number or a one-element tensor, detached.

        Raises:
            ContractError: a metric is neither.
        """
        return {str(name): _number(name, value, target, style) for name, value in metrics.items() if value is not None}

    def measures(self, numbers: Mapping[str, Any], counts: Tensor) -> dict[str, Measure]:
        """Return the measures of rows with these counts of tokens. `actor/ppo_kl` becomes `ppo_kl` of this loss."""
        return {
            name.removeprefix("actor/").replace("/", "_"): self._measure(name, value, counts)
            for name, value in numbers.items()
        }

    def _measure(self, name: str, value: Any, counts: Tensor) -> Measure:
        if name.endswith("_min"):
            return Min(value)
        if name.endswith("_max"):
            return Max(value)
        are = self.by_name.get(name, self.are)
        if are == "counts" or name.endswith("_sum") or name.rpartition("/")[2].startswith("num_"):
            return Sum(value)
        if are == "per sequence":
            return Mean(value, float(len(counts)))
        return Mean(value, counts.sum()) if are == "per token" else Mean(value * counts.sum(), counts.sum())


def type_of(value: object) -> str:
    """Return a description of a value's type, for messages."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def _number(name: object, value: Any, target: str, style: str) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        if value.requires_grad:
            notice(
                f"{target!r} returns the metric {name!r} with its graph, which keeps the whole forward pass in memory. "
                "plugrad detaches it. Write .detach() or .item()."
            )
        return value.detach().reshape(())
    # NumPy scalars also have item().
    if isinstance(value, bool | int | float) or (hasattr(value, "item") and not isinstance(value, Tensor)):
        return float(value)
    raise ContractError(f"{target!r} returned {type_of(value)} as the metric {name!r}; {style} returns numbers.")
