"""Promises about a loss's gradient: its sign, where it is zero, and that it is the derivative of the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.loss import sum_rows
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.cuts import skip_if_it_mixes
from plugrad.testing.losses.loss_trial import LossTrial, gradients_of
from plugrad.testing.losses.trial_micro_batches import (
    LENGTHS,
    draw_micro_batch,
    moved,
    on_policy,
    rows_of,
    with_row_advantages,
)
from plugrad.testing.numbers import is_close

SIGNS = (1.0, -0.5, 0.25, -1.0, 2.0, -2.0, 0.5)
NEGLIGIBLE = 1e-12
ONE_ROW = 1
MOVED = (1.0, 3.0)
"""Nats between the policy and the one that sampled: beyond the bounds of every clip that is meant to hold."""
STEP = 1e-6
PRECISION = 1e-5
FEW = (1, 4, 6)
"""Sequences of 3, 1 and 4 tokens: finite differences take two evaluations per token."""
LEAVES_GRAPH = (Tensor.detach, Tensor.item, Tensor.tolist, Tensor.__float__, Tensor.numpy)


def _check_advantage_sign(loss: LossTrial) -> str:
    if loss.facts.policy_gradient is False:
        raise NotApplicable("it declares policy_gradient=False")
    inputs = with_row_advantages(on_policy(draw_micro_batch()), SIGNS)
    # A penalty, which pulls without an advantage too, is not part of what follows the advantage.
    gradient = _gradient(loss, inputs) - _gradient(loss, with_row_advantages(inputs, [0.0] * len(SIGNS)))
    if not bool((gradient.abs() > NEGLIGIBLE).any()) and not loss.facts.policy_gradient:
        raise NotApplicable("it does not react to advantages")
    push = -gradient * inputs.advantages.sign()
    wrong = (push < -NEGLIGIBLE).nonzero().tolist()
    if wrong:
        row, token = wrong[0]
        raise Broken(
            f"a token with the advantage {SIGNS[row]:g} has the gradient {gradient[row, token]:.4g}: descending on it "
            f"{'lowers' if SIGNS[row] > 0 else 'raises'} its log-prob"
        )
    moved = [row for row in range(len(LENGTHS)) if bool((push[row] > NEGLIGIBLE).any())]
    still = sorted(set(range(len(LENGTHS))) - set(moved))
    if loss.facts.policy_gradient and (not moved or (still and not loss.facts.mixes_sequences)):
        raise Broken(f"on policy, a sequence with the advantage {SIGNS[still[0]]:g} has no gradient")
    return (
        f"{int((push > NEGLIGIBLE).sum())} of {int(inputs.loss_mask.sum())} tokens pushed the right way, none the wrong way"
    )


def _check_clip_side(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    if loss.facts.policy_gradient is False:
        raise NotApplicable("it declares policy_gradient=False")
    rows = rows_of(on_policy(draw_micro_batch()), [ONE_ROW] * 4)
    inputs = with_row_advantages(rows, [1.0, 1.0, -1.0, -1.0])
    seen: list[str] = []
    stuck: list[tuple[float, float] | None] = []
    for nats in MOVED:
        far = moved(inputs, [nats, -nats, -nats, nats])
        # A penalty is not part of what follows the advantage.
        values, push = _following_the_advantage(loss, far)
        kept = [bool((push[row] > NEGLIGIBLE).any()) for row in range(4)]
        clipped = [not kept[row] and abs(values[row]) > NEGLIGIBLE for row in range(4)]
        if kept[0] and kept[2] and clipped[1] and clipped[3]:
            raise Broken(
                f"a token with a positive advantage is raised {nats:g} nats above the sampling policy, and no longer below "
                "it; one with a negative is lowered below it, and no longer above it"
            )
        seen.append("kept" if kept[1] or kept[3] else "left out")
        stuck.append((values[1], values[3]) if clipped[1] and clipped[3] else None)
    # What a loss detaches has a value that follows the distance, and what it leaves out has none.
    near, far_off = stuck
    if near and far_off and all(map(is_close, near, far_off)):
        raise Broken(
            f"a token {MOVED[0]:g} nats below the sampling policy with a positive advantage has no gradient, and one above "
            "it with a negative one has none either: the value is that of a bound, so neither is ever pulled back"
        )
    return f"{' and '.join(f'{nats:g}' for nats in MOVED)} nats against the advantage: {', '.join(seen)}"


def _following_the_advantage(loss: LossTrial, inputs: BatchLossInputs) -> tuple[list[float], Tensor]:
    """Return what the advantages add to the rows' values, and how far descending pushes each token their way."""
    without = replace(inputs, advantages=torch.zeros_like(inputs.advantages))
    values, (gradient, _) = loss.values_and_gradients(inputs)
    others, (other, _) = loss.values_and_gradients(without)
    return (values - others).tolist(), (other - gradient) * inputs.advantages.sign()


def _gradient(loss: LossTrial, inputs: BatchLossInputs) -> Tensor:
    _, (gradient, _) = loss.values_and_gradients(inputs)
    return gradient


def _check_zero_advantage(loss: LossTrial) -> str:
    if not loss.facts.policy_gradient:
        raise NotApplicable("it does not declare policy_gradient=True")
    _, gradients = loss.values_and_gradients(draw_micro_batch(advantage=0.0))
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    if not largest <= NEGLIGIBLE:
        raise Broken(f"with all advantages 0 the gradient is up to {largest:.4g}")
    return "no gradient"


def _check_gradcheck(loss: LossTrial) -> str:
    inputs, stops = rows_of(draw_micro_batch(), FEW), FrozenStops()
    assert inputs.entropy is not None
    points = [inputs.trainer_logprobs.clone().requires_grad_(), inputs.entropy.clone().requires_grad_()]
    gradients = gradients_of(_value(loss, inputs, points, stops), points)
    largest = 0.0
    for name, point, gradient in zip(("log-prob", "entropy"), points, gradients, strict=True):
        for row, token in inputs.loss_mask.nonzero().tolist():
            slope = _slope(loss, inputs, points, stops, at=(point, row, token))
            found = float(gradient[row, token])
            largest = max(largest, abs(found - slope))
            if not abs(found - slope) <= PRECISION * max(1.0, abs(slope)):
                raise Broken(
                    f"the gradient with respect to the {name} of token {token} of sequence {row} is {found:.6g}, but finite "
                    f"differences give {slope:.6g}"
                )
    return f"finite differences within {largest:.0e}" + (", what it detaches held fixed" if stops.kept else "")


def _slope(
    loss: LossTrial, inputs: BatchLossInputs, points: list[Tensor], stops: FrozenStops, at: tuple[Tensor, int, int]
) -> float:
    """Return the derivative with respect to one entry of `points`, by central differences."""
    point, row, token = at
    here, values = float(point.detach()[row, token]), []
    for step in (STEP, -STEP):
        point.data[row, token] = here + step
        values.append(_value(loss, inputs, points, stops).item())
    point.data[row, token] = here
    return (values[0] - values[1]) / (2 * STEP)


def _value(loss: LossTrial, inputs: BatchLossInputs, points: list[Tensor], stops: FrozenStops) -> Tensor:
    # Copies: a change in place here would look like one by the loss.
    trainer_logprobs, entropy = (point.clone() for point in points)
    stops.rewind()
    with stops:
        outputs = loss.outputs(replace(inputs, trainer_logprobs=trainer_logprobs, entropy=entropy))
    return sum_rows(outputs, inputs.loss_mask).sum()


class FrozenStops(TorchFunctionMode):
    """Hold fixed what a loss takes out of the graph, at the values of its first evaluation.

    A loss that multiplies by a detached ratio has, on purpose, another gradient than the derivative of its value. With the
    detached numbers held fixed, both agree, and finite differences can check them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []
        """What was taken out of the graph, in order."""
        self._next = 0

    def rewind(self) -> None:
        """Start another evaluation."""
        self._next = 0

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the kept result of a call that leaves the graph. Run any other call."""
        result = func(*args, **(kwargs or {}))
        if func not in LEAVES_GRAPH and torch.is_grad_enabled():
            return result
        self._next += 1
        if self._next > len(self.kept):
            self.kept.append(result)
        return self.kept[self._next - 1]


GRADIENTS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "advantage_sign",
        "if it reacts to advantages, it raises the log-prob of a token with a positive one, and lowers it with a negative",
        "With the wrong sign the policy learns to avoid what was rewarded, and the curves still look alive.",
        "A loss is minimised: the policy gradient is -advantage * log-prob. Detach the weight of a log-prob, as in "
        "-ratio.detach() * advantage * log-prob, not the log-prob. A loss that is meant to do something else declares "
        "@loss(policy_gradient=False).",
        _check_advantage_sign,
        untested="sign not tested",
    ),
    Promise(
        "clip_side",
        "it clips, if at all, where the policy has already followed the advantage",
        "A clip stops a token that has moved far enough. On the wrong side it lets those go that have moved the wrong way, "
        "and the others move without bound.",
        "Take the smaller one of the two objectives: -torch.minimum(ratio * A, clipped * A). As losses, the larger one.",
        _check_clip_side,
        after=("micro_batches", "advantage_sign"),
    ),
    Promise(
        "zero_advantage",
        "a zero advantage gives no gradient",
        "A group of equally good rollouts has nothing to teach and must not move the policy.",
        "Multiply every term by the advantage. Write a penalty as a separate loss with its own weight.",
        _check_zero_advantage,
    ),
    Promise(
        "gradcheck",
        "its gradient is the derivative of its value, with what it detaches held fixed",
        "A wrong gradient still trains, only worse, and no curve shows it.",
        "Look at backward() of custom autograd functions, at .data, and at numbers taken out through NumPy.",
        _check_gradcheck,
        after=("micro_batches",),
    ),
)
