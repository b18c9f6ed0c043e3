"""Promises about a loss far from the other policies, or from probable tokens: finite, and with its direction kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.synthetic import in_dtype, map_tensors
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.cuts import skip_if_it_mixes
from plugrad.testing.losses.loss_trial import LossTrial, name_of
from plugrad.testing.losses.numerics import RANGES, WIDEN
from plugrad.testing.losses.ordinary import works_in
from plugrad.testing.losses.trial_micro_batches import (
    LENGTHS,
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
LOWER = (0.0, 0.5)
"""How far two rows of probable tokens lie below the drawn one."""
BESIDE = 0.2
"""Nats between the policy and the reference, where the policy is on the way down."""
ONE_OTHER = (("inference_logprobs", "old_logprobs"), ("ref_logprobs",), ("teacher_logprobs",))
"""What moves together: the sampling policy has two log-probs, the engine's and the trainer's, which differ by little."""
ONE_ROW = 1
GROWS = 0.999


def _check_large_ratios(loss: LossTrial) -> str:
    for dtype in (dtype for dtype in DTYPES if works_in(loss, dtype)):
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
            if is_finite(numbers[row]) or (dtype in RANGES and _is_out_of_range(loss, inputs, row)):
                continue
            where = "one token" if token is not None else "a sequence"
            side = "above" if nats > 0 else "below"
            seen = (
                f"with {where} {abs(nats):g} nats {side} the other policies and the advantage "
                f"{float(inputs.advantages[row].sum().sign()):g}, its {what} is not finite in {name_of(dtype)}"
            )
            if dtype in RANGES:
                raise Broken(f"{seen}, but finite in float32", why=RANGES[dtype], fix=WIDEN)
            raise Broken(seen)


def _is_out_of_range(loss: LossTrial, inputs: BatchLossInputs, row: int) -> bool:
    """Whether the row's own value or gradient, computed in float64, is more than the dtype of the inputs can hold."""
    values, gradients = loss.values_and_gradients(in_dtype(inputs, torch.double))
    largest = max(float(numbers[row].abs().max()) for numbers in (values, *gradients))
    return largest > torch.finfo(inputs.trainer_logprobs.dtype).max


def _require_finite_metrics(loss: LossTrial, far: BatchLossInputs, ordinary: BatchLossInputs) -> None:
    before = loss.measures(ordinary)
    for name, measure in loss.measures(far).items():
        if name in before and is_finite_measure(before[name]) and not is_finite_measure(measure):
            raise Broken(f"with log-probs up to {max(STALE):g} nats apart, its metric {name!r} is {measure.value():g}")


def _check_far_direction(loss: LossTrial) -> str:
    # The rows lie at different distances: in a loss that mixes rows, each would pull on the others.
    skip_if_it_mixes(loss)
    near = NEAR_BEYOND_CLIPS if _reacts_to_advantages(loss) else NEAR
    needs = {"inference_logprobs", *loss.component.needs}
    groups = [[name for name in group if name in needs] for group in ONE_OTHER]
    pulled = [group for group in groups if group and _keeps_direction(loss, group, near)]
    if not pulled:
        raise NotApplicable("no pull grows with the distance of two policies")
    return f"kept up to {max(FAR):g} nats"


def _keeps_direction(loss: LossTrial, others: Sequence[str], near: tuple[float, float]) -> bool:
    """Return whether there is a pull that grows with the distance from another policy. It must still be there far off."""
    rows, found = rows_of(on_policy(draw_micro_batch()), [ONE_ROW] * len((*near, *FAR))), False
    for side in (1, -1):
        for advantage in ADVANTAGES:
            distances = [side * nats for nats in (*near, *FAR)]
            inputs = with_row_advantages(moved(rows, distances, others=others), [advantage] * len(distances))
            place = f"nats {'above' if side > 0 else 'below'} {' and '.join(others)}"
            may_drop = "inference_logprobs" in others
            found = _keeps_pulls(loss, inputs, place, "at a few nats, where it grows with the distance", may_drop) or found
    return found


def _keeps_pulls(loss: LossTrial, inputs: BatchLossInputs, place: str, where: str, may_drop: bool) -> bool:
    """Return whether a pull does not shrink from the first row to the second. It must still be there in the others.

    Args:
        loss: the loss.
        inputs: two rows nearby, then those of `FAR`.
        place: where those are, after the number of nats.
        where: the rows nearby are, for messages.
        may_drop: a sequence may be left out on purpose. Its value is then 0, where that of a clamp is not.
    """
    values, (gradient, _) = loss.values_and_gradients(inputs)
    first, second, *far = (gradient[row][mask] for row, mask in enumerate(inputs.loss_mask))
    pulls = (second * first > 0) & (second.abs() >= GROWS * first.abs())
    for nats, value, there in zip(FAR, values.tolist()[2:], far, strict=True):
        lost = (pulls & (there * second <= 0)).nonzero().flatten().tolist()
        if lost and not (may_drop and value == 0):
            raise Broken(
                f"{nats:g} {place} the gradient of a token is {float(there[lost[0]]):.3g}, but {float(second[lost[0]]):.3g} "
                f"{where}"
            )
    return bool(pulls.any())


def _check_improbable_tokens(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    rows, found = rows_of(_probable(draw_micro_batch()), [ONE_ROW] * len((*LOWER, *FAR))), False
    for advantage in ADVANTAGES:
        inputs = with_row_advantages(_lowered(rows, (*LOWER, *FAR)), [advantage] * len((*LOWER, *FAR)))
        place = "nats down, with every policy there,"
        found = _keeps_pulls(loss, inputs, place, "at a probable token", may_drop=True) or found
    if not found:
        raise NotApplicable("its pull on probable tokens is 0, or shrinks with their probability")
    return f"as at probable tokens, down to {max(FAR):g} nats"


def _probable(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the inputs on policy, with log-probs between -0.75 and -0.5, and reference and teacher beside the policy."""
    own = torch.where(inputs.loss_mask, -0.5 - 0.25 * (inputs.trainer_logprobs.abs() % 1), 0.0)
    signs = 1.0 - 2.0 * (torch.arange(own.shape[1]) % 2)
    others = torch.where(inputs.loss_mask, own + BESIDE * signs, 0.0)
    return replace(on_policy(replace(inputs, trainer_logprobs=own)), ref_logprobs=others, teacher_logprobs=others)


def _lowered(inputs: BatchLossInputs, nats: Sequence[float]) -> BatchLossInputs:
    """Return the inputs with the log-probs of every policy lower by this much, one number per row."""
    steps = torch.tensor(nats, dtype=torch.double).unsqueeze(1) * inputs.loss_mask
    return map_tensors(inputs, lambda name, value: value - steps if name.endswith("logprobs") else value)


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
        "improbable_tokens",
        "a pull on probable tokens is still there where every policy finds a token improbable",
        "A clamped log-prob has no gradient below the bound: a rare token that was rewarded is never raised, and a bad one "
        "never lowered.",
        "Do not clamp trainer_logprobs: log-probs are finite. Bound the ratio of two policies instead.",
        _check_improbable_tokens,
        after=("micro_batches", "large_ratios"),
    ),
    Promise(
        "far_direction",
        "a pull that grows with the distance of two policies is still there far off",
        "A clamped log-ratio has no gradient beyond the bound: the token that is furthest off is never pulled back.",
        "Do not clamp a log-ratio. plugrad.finite_exp(log_ratio) and plugrad.k3(d) limit only what overflows, and keep the "
        "direction.",
        _check_far_direction,
        after=("micro_batches", "large_ratios", "improbable_tokens"),
    ),
)
