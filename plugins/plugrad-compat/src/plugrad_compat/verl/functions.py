"""Helper functions that verl's losses and estimators use."""

from __future__ import annotations

from torch import Tensor

from plugrad import PluginError
from plugrad_compat.adapters.masked import EPS, masked_sum

MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")


def agg_loss(
    loss_mat: Tensor,
    loss_mask: Tensor,
    loss_agg_mode: str,
    dp_size: int = 1,
    batch_num_tokens: int | None = None,
    global_batch_size: int | None = None,
    loss_scale_factor: int | None = None,
) -> Tensor:
    """Aggregate `[batch, response_length]` as verl does.

    With `**config.global_batch_info`, as passed to a loss here, every denominator is 1 and a summing mode is a plain
    sum. The run file's `reduction` divides. Without it, this is verl's mean over the given rows.

    Raises:
        PluginError: verl has no such mode.
    """
    if loss_agg_mode not in MODES:
        raise PluginError(f"loss_agg_mode = {loss_agg_mode!r}: verl has {', '.join(MODES)}.")
    if loss_agg_mode.startswith("token"):
        tokens = 1 if loss_agg_mode == "token-sum" else batch_num_tokens or loss_mask.sum()
        return masked_sum(loss_mat, loss_mask) / tokens * dp_size
    lengths = loss_mask.sum(dim=-1)
    rows = (loss_mat * loss_mask).sum(dim=-1)
    rows = rows / (lengths + EPS) if loss_agg_mode == "seq-mean-token-mean" else rows
    sequences = (lengths > 0).to(rows)
    total = masked_sum(rows, sequences) / (global_batch_size or sequences.sum()) * dp_size
    return total / (loss_scale_factor or loss_mask.shape[-1]) if loss_agg_mode == "seq-mean-token-sum-norm" else total
