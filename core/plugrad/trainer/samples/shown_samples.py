"""Samples as a table in a terminal: what a model wrote is shown, and never obeyed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad.host.chat_rules import REPLY
from plugrad.shown import escaped, text_of

NUM_SHOWN = 3
PROMPT, COMPLETION, REFERENCE, TURN = 120, 240, 60, 100
"""The most characters of each."""
TURNS_SHOWN = 6
"""Of a rollout with more, the first and the last ones are shown."""


def num_shown(console: Console, asked: int | None) -> int:
    """Return how many samples a table has: as many as were asked for, or three in a terminal, none elsewhere."""
    if asked is not None:
        return asked
    return NUM_SHOWN if console.is_terminal else 0


def print_samples(samples: Sequence[Mapping[str, Any]], console: Console, num: int = NUM_SHOWN) -> None:
    """Print `num` samples of one batch, from the best to the worst: of three, the one between is the most typical."""
    shown = spread(samples, num)
    if not shown:
        return
    table = Table(box=None, title=Text(_title(shown[0])), title_justify="left", header_style="bold", padding=(0, 2, 0, 0))
    for column in ("", "reward", "tokens"):
        table.add_column(column, no_wrap=True)
    for column, ratio in (("prompt", 2), ("completion", 4), ("reference", 1)):
        table.add_column(column, overflow="fold", ratio=ratio)
    differ = shown[0]["reward"] != shown[-1]["reward"]
    for place, sample in enumerate(shown):
        table.add_row(*_row(_name(place, len(shown)) if differ else "", sample))
    console.print(table)


def spread(samples: Sequence[Mapping[str, Any]], num: int) -> list[Mapping[str, Any]]:
    """Return `num` of the samples by falling reward, evenly spaced; of equal rewards the shorter comes first."""
    ordered = sorted(samples, key=lambda sample: (-sample["reward"], sample["length"]))
    if num == 1 and ordered:
        return [ordered[len(ordered) // 2]]
    last = len(ordered) - 1
    return [ordered[round(i * last / (num - 1))] for i in range(num)] if last >= num > 1 else ordered[:num]


def one_line(text: str, limit: int) -> str:
    """Return a text in one line of about `limit` characters, its end too, with everything escaped that does not print."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
    return escaped(text).replace("\n", "\\n").replace("\t", "\\t")


def _title(sample: Mapping[str, Any]) -> str:
    what = "Training" if sample["phase"] == "training" else f"Held-out {one_line(sample['set'] or 'examples', REFERENCE)}"
    return f"{what}, step {sample['step']}"


def _name(place: int, num: int) -> str:
    if num == 1:
        return "typical"
    return {0: "best", num - 1: "worst"}.get(place, "typical" if num == NUM_SHOWN else "")


def _row(name: str, sample: Mapping[str, Any]) -> list[Text]:
    reference = sample["reference"]
    # A Text: rich reads markup in a str.
    return [
        Text(name),
        Text(f"{sample['reward']:.3g}"),
        Text(f"{sample['length']}{', cut off' if sample['truncated'] else ''}"),
        Text(one_line(sample["prompt"], PROMPT)),
        _said(sample),
        Text("" if reference is None else one_line(text_of(reference), REFERENCE)),
    ]


def _said(sample: Mapping[str, Any]) -> Text:
    """Return what follows the prompt: a line for each turn, if there are several or the play failed."""
    turns = sample.get("turns", ())
    if "failed" not in sample and len(turns) < 2:
        return Text(one_line(sample["completion"], COMPLETION))
    lines = [_turn(turn) for turn in turns]
    if len(lines) > TURNS_SHOWN:
        half = TURNS_SHOWN // 2
        lines[half:-half] = [Text(f"... {len(lines) - TURNS_SHOWN} more ...", style="dim")]
    if "failed" in sample:
        lines.append(Text(one_line(f"play failed: {sample['failed']}", COMPLETION), style="red"))
    return Text("\n").join(lines)


def _turn(turn: Mapping[str, Any]) -> Text:
    reward = "" if turn["reward"] is None else f" ({turn['reward']:+.3g})"
    role = one_line(str(turn["role"]), REFERENCE)
    style = "bold" if turn["role"] == REPLY else "dim"
    return Text.assemble((f"{role}{reward}: ", style), one_line(turn["text"], TURN))
