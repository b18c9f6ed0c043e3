"""Draw held-out curves of comparisons, and print a table: `python curves.py PICTURE.svg NAME...`.

Each NAME is a run file over several seeds: `plugrad compare NAME.toml --seeds 3`.
"""

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from plugrad.compare.curves import Curve, Panel
from plugrad.compare.picture import COLUMNS, as_svg, draw_panel, in_page_colours

REWARDS = ("eval/reward_components/solved", "eval/reward")
"""What is drawn: the share of solved games, where a game's reward counts more than that."""
OTHERS = {"turns": "turns", "tool calls": "tool_calls", "failed ones": "failed_tool_calls"}
"""What else the table has, by column: numbers of a rollout that the environment reports."""
Run = list[dict[str, Any]]


def runs_of(name: str) -> list[Run]:
    """Return the evaluations of each seed."""
    files = sorted(Path("runs", f"compare-{name}", "run-file").glob("seed-*/metrics.jsonl"))
    records = [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]
    return [[record for record in run if "eval/reward" in record] for run in records]


def reward_of(record: dict[str, Any]) -> float:
    """Return an evaluation's share of solved examples."""
    return float(next(record[name] for name in REWARDS if name in record))


def row(name: str, runs: list[Run]) -> str:
    """Return a table's row: rewards per seed, and means of what else changed."""

    def change(key: str) -> str:
        if not all(f"eval/environment/{key}" in record for run in runs for record in run):
            return "-"
        first, last = (fmean(run[at][f"eval/environment/{key}"] for run in runs) for at in (0, -1))
        return f"{first:.2f} -> {last:.2f}"

    starts, ends = (", ".join(f"{reward_of(run[at]):.2f}" for run in runs) for at in (0, -1))
    return " | ".join([f"| {name}", starts, ends, *map(change, OTHERS.values())]) + " |"


def draw(found: dict[str, list[Run]], path: Path) -> None:
    """Draw a panel for each name: the mean over seeds, in a band of their range."""
    with in_page_colours() as paper:
        figure = Figure(figsize=(6.4, 2.2 * -(-len(found) // COLUMNS) + 0.3), layout="constrained", facecolor=paper)
        all_axes = figure.subplots(-(-len(found) // COLUMNS), COLUMNS, squeeze=False).flatten()
        for (name, runs), axes in zip(found.items(), all_axes, strict=False):
            seeds = [[(float(record["step"]), reward_of(record)) for record in run] for run in runs]
            draw_panel(Panel(name, "step", [Curve(name, seeds)], has_markers=True), axes, [name])
            axes.set_ylim(0, 1)
        for axes in all_axes[len(found) :]:
            axes.set_axis_off()
        path.write_text(as_svg(figure), encoding="utf-8")


def main(picture: str, *names: str) -> None:
    """Draw the picture, and print the table."""
    found = {name: runs_of(name) for name in names}
    columns = ["run file", "before", "after", *OTHERS]
    rows = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    sys.stdout.write("\n".join([*rows, *(row(name, runs) for name, runs in found.items())]) + "\n")
    draw(found, Path(picture))


if __name__ == "__main__":
    main(*sys.argv[1:])
