"""The picture of a run for its trackers: a few curves, drawn where matplotlib is installed (the extra `plugrad[plots]`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plugrad.contracts.run_records import RunRecords, Series

Image = NDArray[np.uint8]
"""`[height, width, 3]`."""
TITLE = "curves"
"""What it is called in a tracker."""
PANELS = (
    ("reward", ("reward", "eval/reward")),
    ("loss", ("loss",)),
    ("tokens of a completion", ("completion_length/mean",)),
    ("entropy, nats", ("entropy/mean",)),
    ("norm of the gradient", ("grad_norm",)),
)
MOST_PANELS = 4
WIDTH, HEIGHT, DPI = 9.0, 5.2, 100


def drawn(records: RunRecords) -> Image | None:
    """Return the first curves that a run has; None without matplotlib, or if nothing has two values."""
    panels = [(title, curves) for title, names in PANELS if (curves := _curves(records, names))]
    if not panels or find_spec("matplotlib") is None:
        return None
    # Not pyplot, which keeps figures and belongs to the main thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained", facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)
    panels = panels[:MOST_PANELS]
    places: Any = figure.subplots(2, 2, squeeze=False).flatten()
    for axes, (title, curves) in zip(places, panels, strict=False):
        _draw(axes, title, curves)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(f"{records.folder.name}: {records.num_steps} steps", x=0.01, ha="left", parse_math=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@dataclass(frozen=True)
class _Curve:
    name: str
    series: Series


def _curves(records: RunRecords, names: Sequence[str]) -> list[_Curve]:
    found = [_Curve(name, records.series(name)) for name in names]
    return [curve for curve in found if len(curve.series) > 1]


def _draw(axes: Any, title: str, curves: Sequence[_Curve]) -> None:
    for curve in curves:
        is_rare = curve.name.startswith("eval/")
        axes.plot(
            curve.series.steps, curve.series.values, marker="o" * is_rare, markersize=3, linewidth=1.2, label=curve.name
        )
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False)
