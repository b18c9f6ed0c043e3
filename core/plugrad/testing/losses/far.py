"""Promises about a loss far from the other policies: finite, and with the direction of the gradient kept."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.synthetic import in_dtype
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.cuts import skip_if_cut_dependent
from plugrad.testing.losses.loss_trial import LossTrial, name_of
from plugrad.testing.losses.trial_micro_batches import (
    LENGTHS,
    OTHERS,
    draw_micro_batch,
    moved,
    on_policy,
    rows_of,
    with_row_advantages,
)
from plugrad.testing.numbers import is_finite, is_finite_measure

STALE = (100.0, -100.0, 1e3, -1e3, 1e4, -1e4, 20.0)
"""How many nats the policy lies above the others, by row."""
ADVANTAGES = (1.0, -1.0, 0.0)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
FAR_IN_FLOAT16 = 100.0
FAR = (100.0, 1e3, 1e4)
NEAR = (1.5, 3.0)
NEAR_BEYOND_CLIPS = (6.0, 9.0)
"""Where the trust region of a usual policy gradient has ended: its gradient is 0 on purpose."""
ONE_ROW = 1
GROWS = 0.999


def _check_large_ratios(loss: LossTrial) -> str:
    for dtype in filter(loss.works_in, DTYPES):
        for token in (-1, None):
            for advantage in ADVANTAGES:
                inputs = in_dtype(with_row_advantages(draw_micro_batch(), [advantage] * len(LENGTHS)), dtype)
                far = moved(inputs, _distances(dtype), token=token)
                _require_finite(loss, far, token)
                if dtype is not torch.float16:
                    _require_finite_metrics(loss, far, inputs)
    return f"finite with log-probs up to {max(STALE):g} nats apart"


def _distances(dtype: torch.dtype) -> list[float]:
    # float16 ends at 65504: even the square of a larger distance is infinite.
    most = FAR_IN_FLOAT16 if dtype is torch.float16 else max(STALE)
    return [max(-most, min(most, nats)) for nats in STALE]


def _require_finite(loss: LossTrial, inputs: BatchLossInputs, token: int | None) -> None:
    dtype = inputs.trainer_logprobs.dtype
    values, gradients = loss.values_and_gradients(inputs)
    for what, numbers in (("value", values), *(("gradient", gradient) for gradient in gradients)):
        for row, nats in enumerate(_distances(dtype)):
            if not is_finite(numbers[row]):
                where = "one token" if token is not None else "a sequence"
                side = "above" if nats > 0 else "below"
                raise Broken(
                    f"with {where} {abs(nats):g} nats {side} the other policies and the advantage "
                    f"{float(inputs.advantages[row].sum().sign()):g}, its {what} is not finite in {name_of(dtype)}"
                )


def _require_finite_metrics(loss: LossTrial, far: BatchLossInputs, ordinary: BatchLossInputs) -> None:
    before = loss.measures(ordinary)
    for name, measure in loss.measures(far).items():
        if name in before and is_finite_measure(before[name]) and not is_finite_measure(measure):
            raise Broken(f"with log-probs up to {max(STALE):g} nats apart, its metric {name!r} is {measure.value():g}")


def _check_far_direction(loss: LossTrial) -> str:
    # The rows lie at different distances: in a loss that mixes rows, each would pull on the others.
    skip_if_cut_dependent(loss)
    near = NEAR_BEYOND_CLIPS if _reacts_to_advantages(loss) else NEAR
    others = [name for name in OTHERS if name == "inference_logprobs" or name in loss.component.needs]
    pulled = [other for other in others if _keeps_direction(loss, other, near)]
    if not pulled:
        raise NotApplicable("no pull grows with the distance of two policies")
    return f"kept up to {max(FAR):g} nats"


def _keeps_direction(loss: LossTrial, other: str, near: tuple[float, float]) -> bool:
    """Return whether there is a pull that grows with the distance from another policy. It must still be there far off."""
    rows, found = rows_of(on_policy(draw_micro_batch()), [ONE_ROW] * len((*near, *FAR))), False
    for side in (1, -1):
        for advantage in ADVANTAGES:
            distances = [side * nats for nats in (*near, *FAR)]
            inputs = with_row_advantages(moved(rows, distances, others=[other]), [advantage] * len(distances))
            _, (gradient, _) = loss.values_and_gradients(inputs)
            first, second, *far = (gradient[row][mask] for row, mask in enumerate(inputs.loss_mask))
            pulls = (second * first > 0) & (second.abs() >= GROWS * first.abs())
            for nats, there in zip(FAR, far, strict=True):
                _require_direction(there[pulls], second[pulls], f"{nats:g} nats {'above' if side > 0 else 'below'} {other}")
            found = found or bool(pulls.any())
    return found


def _require_direction(far: Tensor, near: Tensor, place: str) -> None:
    lost = (far * near <= 0).nonzero().flatten().tolist()
    if lost:
        raise Broken(
            f"{place} the gradient of a token is {float(far[lost[0]]):.3g}, but {float(near[lost[0]]):.3g} at a few nats, "
            "where it grows with the distance"
        )


def _reacts_to_advantages(loss: LossTrial) -> bool:
    drawn, without = draw_micro_batch(), draw_micro_batch(advantage=0.0)
    _, (one, _) = loss.values_and_gradients(drawn)
    _, (other, _) = loss.values_and_gradients(without)
    return not torch.equal(one, other)


FAR_OFF: tuple[Promise[LossTrial], ...] = (
    Promise(
        "large_ratios",
        "one token far from the policy that sampled leaves value, gradient and metrics finite",
        "A stale or corrupt token is enough: exp(89) is infinite in float32, and a branch with it has the gradient 0 * inf "
        "= NaN even where its value is discarded. That ends a run.",
        "Use plugrad.finite_exp(log_ratio) instead of log_ratio.exp(): it stays finite, and equals exp up to 34 nats. Over "
        "a whole sequence, take the mean of the log-ratio.",
        _check_large_ratios,
    ),
    Promise(
        "far_direction",
        "a pull that grows with the distance of two policies is still there far off",
        "A clamped log-ratio has no gradient beyond the bound: the token that is furthest off is never pulled back.",
        "Do not clamp a log-ratio. plugrad.finite_exp(log_ratio) and plugrad.k3(d) limit only what overflows, and keep the "
        "direction.",
        _check_far_direction,
        after=("micro_batches", "large_ratios"),
    ),
)
