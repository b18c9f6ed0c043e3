"""How hard a loss pushes a token that has moved: asked of the loss itself, and drawn as an inline SVG."""

from __future__ import annotations

import torch
from torch import Tensor

import plugrad
from plugrad import BatchLossInputs, LoadedLoss

GREATEST_RATIO = 2.5
NUM_RATIOS = 251
SAMPLER_PROBABILITY = 0.2
"""What the engine and the old policy gave the token: 0.2 times the greatest ratio is still a probability."""
GREATEST_WEIGHT = 2.5
"""Of every picture, so that one sees at once how the losses differ."""
STRAIGHT = 1e-9
LEFT, RIGHT, TOP, WIDTH, HEIGHT = 14, 6, 4, 150, 96
BOTTOM = 12


def ratios() -> Tensor:
    """Return ratios from just above 0, whose logarithm is finite, to the greatest."""
    return torch.linspace(0, GREATEST_RATIO, NUM_RATIOS, dtype=torch.float64).clamp(min=1e-3)


def weights(loss: LoadedLoss, advantage: float, *, is_cut_dependent: bool = False) -> Tensor:
    """-d loss / d log pi, over |A|, for sequences of a single token with each of the ratios.

    A loss that depends on the cut sees them one by one: in one micro-batch, they would change each other's weight.
    """
    parts = ratios().split(1 if is_cut_dependent else NUM_RATIOS)
    return torch.cat([_weights(loss, part.unsqueeze(1), advantage) for part in parts]).squeeze(1)


def picture(name: str, loss: LoadedLoss, *, is_cut_dependent: bool = False) -> str | None:
    """Return the two curves as one line of SVG; None for a term that does not look at the advantage."""
    up, down = (weights(loss, advantage, is_cut_dependent=is_cut_dependent) for advantage in (1.0, -1.0))
    if torch.equal(up, down):
        return None
    label = f"{name}: the weight on the gradient of log pi, by the ratio"
    parts = [*_axes(), _curve(up, "up"), _curve(down, "down")]
    return f'<svg class="weight" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def figure(name: str) -> str:
    """Return one loss's picture in large, with what its axes and curves are."""
    legend = (
        "Across: the ratio, from 0 to 2.5. Upwards: the weight, from -2.5 to 2.5. "
        '<span class="up">Whole line</span>: A = 1. <span class="down">Broken line</span>: A = -1.'
    )
    drawn = picture(name, plugrad.load("loss", name))
    return (
        f'<figure class="weight" markdown="0">\n{drawn}\n<figcaption><code>{name}</code>. {legend}</figcaption>\n</figure>'
    )


def _weights(loss: LoadedLoss, ratio: Tensor, advantage: float) -> Tensor:
    other = torch.full_like(ratio, SAMPLER_PROBABILITY).log()
    policy = (other + ratio.log()).requires_grad_()
    counted = torch.ones_like(ratio, dtype=torch.bool)
    inputs = BatchLossInputs(
        trainer_logprobs=policy,
        inference_logprobs=other,
        teacher_logprobs=other,
        advantages=torch.full_like(ratio, advantage),
        loss_mask=counted,
        old_logprobs=other,
        ref_logprobs=other,
        entropy=torch.ones_like(ratio).requires_grad_(),
        input_ids=torch.zeros_like(ratio, dtype=torch.long),
        reward=torch.zeros_like(ratio[:, 0]),
    )
    (gradient,) = torch.autograd.grad(loss(inputs).loss.sum(), policy, allow_unused=True, materialize_grads=True)
    return -gradient / abs(advantage)


def _x(ratio: float | Tensor) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * float(ratio) / GREATEST_RATIO


def _y(weight: float | Tensor) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - float(weight) / GREATEST_WEIGHT) / 2


def _axes() -> list[str]:
    left, right, top, bottom = _x(0), _x(GREATEST_RATIO), _y(GREATEST_WEIGHT), _y(-GREATEST_WEIGHT)
    lines = [f"M{left:g} {top:g}V{bottom:g}", f"M{left:g} {_y(0):g}H{right:g}"]
    grid = [f"M{_x(1):g} {top:g}V{bottom:g}", *(f"M{left:g} {_y(weight):g}H{right:g}" for weight in (1, -1))]
    return [
        f'<path class="grid" d="{"".join(grid)}"/>',
        f'<path class="axis" d="{"".join(lines)}"/>',
        *(f'<text x="{_x(ratio):g}" y="{HEIGHT - 2}" text-anchor="middle">{ratio}</text>' for ratio in (0, 1, 2)),
        *(f'<text x="{left - 2:g}" y="{_y(w) + 3:g}" text-anchor="end">{w}</text>' for w in (-1, 0, 1)),
    ]


def _curve(values: Tensor, name: str) -> str:
    bounded = values.clamp(-GREATEST_WEIGHT, GREATEST_WEIGHT)
    points = [f"{_x(r):.4g} {_y(w):.4g}" for r, w in zip(ratios()[_bends(bounded)], bounded[_bends(bounded)], strict=True)]
    return f'<path class="{name}" d="M{"L".join(points)}"/>'


def _bends(values: Tensor) -> Tensor:
    """Return where the curve is not straight, and its ends: a tenth of the page's size."""
    bend = torch.ones_like(values, dtype=torch.bool)
    bend[1:-1] = values.diff(n=2).abs() > STRAIGHT
    return bend
