"""The captures of a run as token views of its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plugrad.errors import PlugradError
from plugrad.report.passed_over import PassedOver
from plugrad.report.token_view import shown_table
from plugrad.trainer.capture.later_captures import CAPTURES

MOST_TOKENS = 20_000
"""Of one capture: a page that holds a whole batch of long completions opens slowly."""


def token_tables_of(folder: Path, passed_over: PassedOver) -> list[dict[str, Any]]:
    """Return a table of tokens for each capture in a run's folder.

    The gradients are those of losses that are installed under a name. A capture may name any file or module as a loss, and
    to look at a run must not run what it brings. A capture that cannot be read is passed over.
    """
    paths = [path for path in sorted((folder / CAPTURES).glob("step_*")) if path.is_dir()]
    found = [passed_over.reading(path, _table_of, None) for path in paths]
    return [table for table in found if table is not None]


def _table_of(path: Path) -> dict[str, Any] | None:
    # Only where there is a capture: they import torch.
    from plugrad.replay.chosen_losses import chosen_losses
    from plugrad.replay.replaying import replay
    from plugrad.replay.token_table import token_table
    from plugrad.trainer.capture.capture_files import read_capture

    capture = read_capture(path)
    replayed, left_out = [], []
    for loss in capture.facts["losses"]:
        if ":" in loss["reference"]:
            left_out.append(f"{loss['label']} is in a file or module of the user's: plugrad replay shows its gradient.")
            continue
        try:
            replayed += replay(capture, chosen_losses(capture, [loss["label"]]))
        except PlugradError as error:
            left_out.append(f"{loss['label']} cannot be replayed: {error}")
    table, told = fewer(token_table(capture, replayed).to_json())
    return shown_table(table, path.name, [*told, *left_out])


def fewer(table: Mapping[str, Any], most_tokens: int = MOST_TOKENS) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Return the first sequences of a table, as many as a page can hold, and what to say of the others."""
    sequences, num_tokens, kept = table["sequences"], 0, 0
    while kept < len(sequences) and (not kept or num_tokens + len(sequences[kept]["tokens"]) <= most_tokens):
        num_tokens += len(sequences[kept]["tokens"])
        kept += 1
    if kept == len(sequences):
        return table, []
    return {"sequences": sequences[:kept]}, [f"The first {kept} of {len(sequences)} sequences are shown."]
