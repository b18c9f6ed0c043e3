"""Draw a comparison as an SVG and in the terminal. The plotting libraries come with the extra `plugrad[plots]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from plugrad.compare.curves import Curve, Panel, caption, panels_of
from plugrad.compare.summary import Summary
from plugrad.paths import write_text

INK, PAPER = "#123456", "#fedcba"
"""Placeholders for the text and page colours, which follow the reader's preference for light or dark."""
# Okabe and Ito's colour-blind-safe palette, without yellow, which is invisible on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1, 1)))
GRID = 60
"""Points of a mean curve."""
COLUMNS = 2
"""Columns of panels: two stay readable on a phone."""
CAPTION_WIDTH = 96
"""Characters per line of the caption."""
LABEL_HEIGHT = 0.1
"""Smallest distance between two labels, as a fraction of a panel's height."""
OUTLINE = re.compile(r'(?<= d=")[^"]*')
GAPS = re.compile(r"\s*([A-Za-z])\s*|\s+")
DECIMALS = re.compile(r"(\d\.\d)\d+")
STYLE = (
    "svg{color-scheme:light dark;color:#24292f}.paper{fill:#ffffff}"
    "@media(prefers-color-scheme:dark){svg{color:#d1d7e0}.paper{fill:#0d1117}}"
)
COLOURED = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
IN_TERMINAL = ("blue+", "orange+", "green+", "magenta+", "red+", "cyan+", "gray+")


def draw(summary: Summary, path: Path, title: str, console: Console) -> bool:
    """Draw the curves into an SVG and on the console. Return whether there was anything to draw.

    Raises:
        ImportError: the plotting libraries are not installed.
    """
    import matplotlib
    import plotext

    panels = panels_of(summary)
    if not any(len(points) > 1 for curve in panels[0].curves for points in curve.seeds):
        return False
    matplotlib.use("Agg")
    _draw_in_terminal(plotext, panels[-1] if panels[-1].has_markers else panels[0], console)
    _draw_svg(summary, panels, path, title)
    return True


def _draw_in_terminal(plotext: Any, panel: Panel, console: Console) -> None:
    plotext.clear_figure()
    plotext.plot_size(min(console.width, 100), 18)
    plotext.theme("clear" if console.no_color or not console.is_terminal else "pro")
    for number, curve in enumerate(panel.curves):
        xs, means, *_ = band(curve)
        plotext.plot(xs, means, label=curve.arm, marker="braille", color=IN_TERMINAL[number % len(IN_TERMINAL)])
    plotext.title(f"{panel.title}, mean over seeds")
    plotext.xlabel(panel.x_label)
    console.print(Text.from_ansi(plotext.build()))


def band(curve: Curve) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return x and the mean, minimum and maximum over seeds, where every seed of the arm has values."""
    import numpy

    xs = numpy.unique(
        numpy.linspace(max(points[0][0] for points in curve.seeds), min(points[-1][0] for points in curve.seeds), GRID)
    )
    values = numpy.stack([numpy.interp(xs, [x for x, _ in points], [y for _, y in points]) for points in curve.seeds])
    return xs.tolist(), values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist()


def _draw_svg(summary: Summary, panels: Sequence[Panel], path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    order = [arm.name for arm in summary.arms]
    num_rows = -(-len(panels) // COLUMNS)
    with in_page_colours() as paper:
        figure = Figure(figsize=(6.4, 2.2 * num_rows + 0.7), layout="constrained", facecolor=paper)
        all_axes = figure.subplots(num_rows, COLUMNS, squeeze=False).flatten()
        for panel, axes in zip(panels, all_axes, strict=False):
            draw_panel(panel, axes, order)
        all_axes[1].sharey(all_axes[0])
        for axes in all_axes[len(panels) :]:
            axes.set_axis_off()
        _label(panels[-1], all_axes[len(panels) - 1], order, has_room=len(panels) % COLUMNS > 0)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        below = "\n".join(wrap(caption(summary), CAPTION_WIDTH))
        figure.supxlabel(below, x=0.01, ha="left", fontsize=9, alpha=0.75)
        write_text(path, as_svg(figure))


@contextmanager
def in_page_colours() -> Iterator[str]:
    """Draw with text and axes in the page's colours, and give the colour that stands for the page."""
    from matplotlib import rc_context

    # Keep text as text: it can be searched, and the file is small.
    text: Any = {"svg.fonttype": "none", "svg.hashsalt": "plugrad", "font.size": 11, "font.sans-serif": ["DejaVu Sans"]}
    colours: Any = {**dict.fromkeys(COLOURED, INK), "axes.facecolor": "none"}
    with rc_context(text | colours):
        yield PAPER


def as_svg(figure: Any) -> str:
    """Return a figure made `in_page_colours` as SVG: without invisible digits and line breaks, and in light or dark."""
    written = StringIO()
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = written.getvalue()
    shorter = OUTLINE.sub(lambda outline: GAPS.sub(lambda gap: gap[1] or " ", DECIMALS.sub(r"\1", outline[0])), svg)
    on_paper = shorter.replace(f'style="fill: {PAPER}"', 'class="paper"').replace(INK, "currentColor")
    return on_paper.replace("</style>", f"{STYLE}</style>", 1)


def draw_panel(panel: Panel, axes: Any, order: Sequence[str]) -> None:
    """Draw each arm's mean in a band of its seeds' range, in the colours of `order`."""
    for curve in panel.curves:
        colour, dashes = _style(order.index(curve.arm))
        xs, means, least, greatest = band(curve)
        if len(curve.seeds) > 1:
            axes.fill_between(xs, least, greatest, color=colour, alpha=0.15, linewidth=0)
        axes.plot(xs, means, color=colour, linestyle=dashes, linewidth=1.6)
        if panel.has_markers:
            at = [x for x, _ in curve.seeds[0] if x <= xs[-1]]
            nearest = [min(range(len(xs)), key=lambda i, x=x: abs(xs[i] - x)) for x in at]
            axes.plot(at, [means[i] for i in nearest], "o", color=colour, markersize=3)
    if panel.cut:
        axes.axvline(panel.cut, color="0.6", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.xaxis.set_major_formatter(_count)


def _label(panel: Panel, axes: Any, order: Sequence[str], *, has_room: bool) -> None:
    """Write each arm's name at the end of its line, in the line's colour, without overlaps.

    The names use the space to the right of the panel if it is free (`has_room`). Otherwise the panel shrinks.
    """
    low, high = axes.get_ylim()
    ends = sorted((band(curve)[1][-1], curve.arm) for curve in panel.curves)
    heights = spread_out([(value - low) / (high - low) for value, _ in ends], LABEL_HEIGHT)
    for height, (_, arm) in zip(heights, ends, strict=True):
        colour, _ = _style(order.index(arm))
        name = axes.text(1.03, height, arm, transform=axes.transAxes, color=colour, va="center", fontweight="bold")
        name.set_in_layout(not has_room)


def spread_out(heights: Sequence[float], apart: float) -> list[float]:
    """Move sorted heights apart so that neighbours are at least `apart` from each other, by as little as possible."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + apart) if placed else height)
    over = max(0.0, placed[-1] - 1.0) if placed else 0.0
    for index in range(len(placed) - 1, -1, -1):
        above = placed[index + 1] - apart if index + 1 < len(placed) else placed[index] - over
        placed[index] = min(placed[index], above)
    return placed


def _style(number: int) -> tuple[str, Any]:
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def _count(value: float, _position: object) -> str:
    from plugrad.compare.quantities import count

    return count(value)
