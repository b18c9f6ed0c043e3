"""Extensions inside core's hooks, as a run has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plugrad import AdvantageInputs, BatchLossInputs, MetricInputs
from plugrad.host.advantage import BoundAdvantage, with_prepared_rewards
from plugrad.host.hooks import Hooks, Host
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss, keep_rows, sum_rows
from plugrad.registry.bind import Component
from plugrad.registry.scan import Kind, scan

EXTENSIONS = {
    "length_penalty": "plugrad_policy.extensions.length_penalty:LengthPenalty",
    "mismatch_correction": "plugrad_policy.extensions.mismatch_correction:MismatchCorrection",
}


@dataclass(frozen=True)
class Inside:
    """The hooks with one extension, called as a step calls them."""

    hooks: Hooks

    def advantages(self, inputs: AdvantageInputs) -> list[list[float]]:
        """Return the advantages after the extension has changed the rewards."""
        prepared = with_prepared_rewards(self.hooks.prepare_advantages(inputs))
        outputs = self.hooks.compute_advantages(prepared)
        assert isinstance(outputs.advantages, Tensor)
        return outputs.advantages.tolist()

    def sums(self, loss: str, inputs: BatchLossInputs, **options: Any) -> Tensor:
        """Return each row's loss `[batch]`. Rows without counted tokens are 0 and do not reach the loss."""
        bound = BoundLoss.create(component("loss", loss, options), label=loss, weight=1.0, reduction="token")
        prepared = self.hooks.prepare_loss(bound, bound.view(inputs))
        kept = prepared.loss_mask.any(dim=1)
        if not kept.any():
            return inputs.trainer_logprobs.sum() * torch.zeros(len(kept)).double()
        prepared = keep_rows(prepared, kept)
        rows = sum_rows(self.hooks.compute_loss(bound, prepared), prepared.loss_mask)
        return torch.zeros(len(kept)).to(rows).index_put((kept.nonzero().squeeze(1),), rows)

    def measured(self) -> dict[str, float]:
        """Return what the extension reports at this point."""
        nothing = torch.zeros(1, 1)
        inputs = MetricInputs(
            rollouts=[],
            rewards=torch.zeros(1),
            advantages=nothing,
            loss_mask=nothing.bool(),
            trainer_logprobs=nothing,
            inference_logprobs=nothing,
            group_ids=torch.zeros(1).long(),
        )
        found = self.hooks.compute_metrics(inputs)
        return {name.partition("/")[2]: measure.value() for name, measure in found.items()}


def component(kind: Kind, reference: str, options: dict[str, Any]) -> Component:
    return load_component(kind, reference, options, scan(), [Path.cwd()])


@pytest.fixture
def inside() -> Callable[..., Inside]:
    """Put an extension, with its options, around an advantage, core's `group_mean` by default, and any loss."""

    def build(
        extension: str, *, around: str = "group_mean", around_options: dict[str, Any] | None = None, **options: Any
    ) -> Inside:
        advantage = component("advantage", around, around_options or {})
        wrapped = component("extension", EXTENSIONS[extension], options)
        host = Host(BoundAdvantage(advantage, advantage.create()), [])
        return Inside(Hooks(host, [(wrapped, wrapped.create())]))

    return build
