"""Samples in a tracker: a table where it has tables, and otherwise the text of one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from plugrad.shown import escaped

COLUMNS = (
    "step", "prompt", "completion", "reference", "reward", "rewards", "advantage", "length", "truncated", "group",
)  # fmt: skip

SHOWN = {**{ord(character): f"&#{ord(character)};" for character in "&<>\\`|*_[]#~$"}, ord("\t"): " ", ord("\n"): "<br>"}
"""What Markdown and HTML would obey, as what they show."""

Rows = list[list[Any]]


def tables_of(samples: Sequence[Mapping[str, Any]]) -> dict[str, Rows]:
    """Return the rows of each table by its name: `samples/training`, or that of the held-out examples."""
    return {name: [_row(sample) for sample in of_one] for name, of_one in groupby(samples, key=_name)}


def in_markdown(rows: Rows) -> str:
    """Return a table in Markdown. What a model wrote is shown as it is: no markup of its own, and no HTML."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_logging_a_table(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Use the table of Accelerate's tracker: of W&B and ClearML."""
    tracker.log_table(name, columns=list(COLUMNS), data=rows, step=step)


def in_tensorboard(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Write a text, which TensorBoard shows as Markdown."""
    tracker.log({name: in_markdown(rows)}, step=step)


def in_trackio(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Log a table of Trackio's."""
    import trackio

    tracker.log({name: trackio.Table(columns=list(COLUMNS), data=rows)}, step=step)


def in_mlflow(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Add rows to an artifact of the run, which MLflow shows as a table."""
    import mlflow

    columns = {column: [row[place] for row in rows] for place, column in enumerate(COLUMNS)}
    mlflow.log_table(columns, artifact_file=f"{name}.json")


def in_swanlab(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Log texts, one a sample."""
    import swanlab

    tracker.log({name: [swanlab.Text(in_markdown([row])) for row in rows]}, step=step)


def in_comet(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Log a table with the step in its name."""
    filename = f"{name.replace('/', '_')}_{step:06d}.csv"
    tracker.tracker.log_table(filename, tabular_data=rows, headers=list(COLUMNS), step=step)


def in_aim(tracker: Any, name: str, rows: Rows, step: int) -> None:
    """Track texts, one a sample."""
    import aim

    tracker.log({name: [aim.Text(in_markdown([row])) for row in rows]}, step=step)


def _name(sample: Mapping[str, Any]) -> str:
    return "/".join(filter(None, ("samples", sample["phase"], sample["set"])))


def _row(sample: Mapping[str, Any]) -> list[Any]:
    """Return the cells: numbers and text. Trackers refuse columns of several types."""
    texts = {"reference": _text(sample["reference"]), "rewards": json.dumps(sample["rewards"])}
    return [texts.get(column, sample[column]) for column in COLUMNS]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)
    return escaped(text).translate(SHOWN)
