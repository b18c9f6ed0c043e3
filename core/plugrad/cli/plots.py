"""Draw curves in the terminal and as an SVG. The two plotting libraries come with the extra `plugrad[plots]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

Series = list[tuple[int, float]]
MISSING = (
    "No plots: matplotlib and plotext are not installed. To install them: pip install 'plugrad[plots]' "
    "(from a clone: pip install '.[plots]')"
)


def write_curves(
    *, accuracy: dict[str, Series], reward: Series, starts_at: int, path: Path, console: Console
) -> Path | None:
    """Draw held-out accuracy and training reward over both stages. Return the SVG's path, or None without the extra."""
    try:
        import matplotlib
        import plotext
    except ImportError:
        console.print(MISSING, style="yellow", soft_wrap=True)
        return None
    matplotlib.use("Agg")
    shifted = [(starts_at + step, value) for step, value in reward]
    _draw_in_terminal(plotext, {**accuracy, "reward": shifted}, console)
    _draw_svg(accuracy, shifted, path)
    return path


def _draw_in_terminal(plotext: Any, series: dict[str, Series], console: Console) -> None:
    plotext.clear_figure()
    plotext.plot_size(min(console.width, 100), 18)
    plotext.theme("clear" if console.no_color or not console.is_terminal else "pro")
    for label, points in series.items():
        marker = "dot" if label == "reward" else "braille"
        plotext.plot([x for x, _ in points], [y for _, y in points], label=label, marker=marker)
    plotext.ylim(0, 1)
    plotext.xlabel("step")
    console.print(Text.from_ansi(plotext.build()))


def _draw_svg(accuracy: dict[str, Series], reward: Series, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*reward, strict=True), color="0.7", linewidth=1, label="training reward (sampled)")
    for (label, points), color in zip(accuracy.items(), ("tab:blue", "tab:orange"), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=color, label=f"held-out accuracy, {label}")
    axes.axvline(reward[0][0] - 1, color="0.85", linewidth=1, zorder=0)
    axes.set(xlabel="step", ylabel="share of correct sums", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
