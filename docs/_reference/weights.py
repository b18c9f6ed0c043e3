"""How hard a loss pushes a token that has moved: computed by the loss itself, and drawn as an SVG."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LoadedLoss

RATIOS = torch.logspace(-1, 1, 401, dtype=torch.float64)
"""From a tenth to ten, evenly on a logarithmic axis, and 1 in the middle."""
SAMPLER_PROBABILITY = 0.1
"""Of the token, under the engine and the old policy: ten times as much is still a probability."""
GREATEST_WEIGHT = 6.0
"""One scale for all pictures, so that they can be compared. A curve that goes further leaves the picture."""
X_TICKS, Y_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10), (-5, -3, -1, 0, 1, 3, 5)
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 16, 7, 5, 14, 220, 150
TOLERANCE = 0.05
"""In pixels: a point that far off the straight line may be left out."""
STYLE = """
svg{color-scheme:light dark;color:#24292f;font:9px sans-serif}
.grid,.axis{fill:none;stroke:currentColor;stroke-width:.6;opacity:.6}
.grid{opacity:.3;stroke-dasharray:1 2}
text{fill:currentColor}
.up,.down{fill:none;stroke-width:1.7}
.up{stroke:#1e88e5}
.down{stroke:#e0700d;stroke-dasharray:4 1.5}
@media(prefers-color-scheme:dark){svg{color:#d1d7e0}}
"""


@dataclass(frozen=True)
class Weights:
    """The weights of a loss for the ratios of a picture."""

    up: Tensor
    """With the advantage 1."""
    down: Tensor
    """With the advantage -1."""

    @property
    def look_at_the_advantage(self) -> bool:
        """Whether the advantage changes anything."""
        return not torch.equal(self.up, self.down)


def weights_of(loss: LoadedLoss, *, mixes_sequences: bool = False) -> Weights:
    """Return the weights that a picture shows."""
    up, down = (weights(loss, RATIOS, advantage, mixes_sequences=mixes_sequences) for advantage in (1.0, -1.0))
    return Weights(up, down)


def weights(loss: LoadedLoss, ratios: Tensor, advantage: float, *, mixes_sequences: bool = False) -> Tensor:
    """-d loss / d log pi, over |A|, for sequences of a single token with each of the ratios.

    A loss that mixes sequences sees them one by one: together, they would change each other's weight.
    """
    parts = ratios.split(1 if mixes_sequences else len(ratios))
    return torch.cat([_weights(loss, part.unsqueeze(1), advantage) for part in parts]).squeeze(1)


def picture(name: str, found: Weights) -> str:
    """Return the two curves as an SVG that adapts to a dark page."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    title = f"<title>{name}: the weight of a token by its ratio</title>"
    curves = [_curve(found.up, "up"), _curve(found.down, "down")]
    parts = [f"<style>{STYLE}</style>", title, *_axes(), *curves]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', *parts, "</svg>", ""])


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
        group_ids=torch.arange(len(ratio)),
    )
    (gradient,) = torch.autograd.grad(loss(inputs).loss.sum(), policy, allow_unused=True, materialize_grads=True)
    return -gradient / abs(advantage)


def _axes() -> list[str]:
    left, right, top, bottom = _x(RATIOS[0]), _x(RATIOS[-1]), _y(GREATEST_WEIGHT), _y(-GREATEST_WEIGHT)
    inside = f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}"/>'
    grid = [f"M{_x(ratio):g} {top:g}V{bottom:g}" for ratio in X_TICKS[1:]]
    grid += [f"M{left:g} {_y(weight):g}H{right:g}" for weight in Y_TICKS if weight]
    return [
        f'<clipPath id="inside">{inside}</clipPath>',
        f'<path class="grid" d="{"".join(grid)}"/>',
        f'<path class="axis" d="M{left:g} {top:g}V{bottom:g}M{left:g} {_y(0):g}H{right:g}"/>',
        *(f'<text x="{_x(ratio):g}" y="{HEIGHT - 3}" text-anchor="middle">{ratio}</text>' for ratio in X_TICKS),
        *(f'<text x="{left - 3:g}" y="{_y(w) + 3:g}" text-anchor="end">{w}</text>' for w in Y_TICKS),
    ]


def _curve(values: Tensor, name: str) -> str:
    if not values.isfinite().all():
        raise ValueError("the weight of a token is not finite.")
    points = [(_x(ratio), _y(weight)) for ratio, weight in zip(RATIOS, values, strict=True)]
    outline = "L".join(f"{x:g} {y:g}" for x, y in _without_straight_parts(points))
    return f'<path class="{name}" clip-path="url(#inside)" d="M{outline}"/>'


def _x(ratio: float | Tensor) -> float:
    share = torch.as_tensor(ratio, dtype=torch.float64).log10() / 2 + 0.5
    return _rounded(LEFT + (WIDTH - LEFT - RIGHT) * float(share))


def _y(weight: float | Tensor) -> float:
    return _rounded(TOP + (HEIGHT - TOP - BOTTOM) * (1 - float(weight) / GREATEST_WEIGHT) / 2)


def _rounded(pixels: float) -> float:
    """Return hundredths of a pixel. What lies between two of them falls to one side whatever the last digits are."""
    return round(round(pixels, 6), 2)


def _without_straight_parts(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the fewest points that keep every other one within the tolerance (Ramer, Douglas and Peucker)."""
    (x0, y0), (x1, y1) = points[0], points[-1]
    heights = [abs(y0 + (y1 - y0) * (x - x0) / (x1 - x0) - y) for x, y in points]
    furthest = max(range(len(points)), key=lambda index: round(heights[index], 4))
    if heights[furthest] <= TOLERANCE:
        return [points[0], points[-1]]
    return [*_without_straight_parts(points[: furthest + 1])[:-1], *_without_straight_parts(points[furthest:])]
