"""Explained variance: how much of what returns vary by a critic foresees (OpenAI Baselines)."""

from __future__ import annotations

from plugrad import Explained, Measure, MetricInputs, metric


@metric(needs={"old_values", "returns"})
def explained_variance(inputs: MetricInputs) -> dict[str, Measure]:
    """1 - var(R - V_old) / var(R), over the counted tokens of the batch, on all ranks.

    1: the critic foresees every return. 0: it is no better than their mean. Below 0: worse. V_old are the values that the
    advantages were computed with, before the first update on the batch. Where all returns are equal, there is nothing to
    explain, and nothing is reported.

    Reports:
        share: the share of the variance.
    """
    assert inputs.old_values is not None
    assert inputs.returns is not None
    return {"share": Explained.over(inputs.old_values, inputs.returns, inputs.loss_mask)}
