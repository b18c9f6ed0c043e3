"""`plugrad replay`: run losses on a captured batch, and show what they do to its tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import TRACEBACK, option_values
from plugrad.errors import RunFileError
from plugrad.json_text import plain
from plugrad.quick_imports import without_collections
from plugrad.shown import printable

if TYPE_CHECKING:
    from plugrad.replay.advantage_again import AdvantageAgain
    from plugrad.replay.replay_outcome import Replay
    from plugrad.replay.replaying import ReplayedLoss
    from plugrad.replay.token_table import PushedToken

CAPTURE = typer.Argument(help="The folder of a capture, such as runs/my_run/captures/step_000050.", show_default=False)
LOSSES = typer.Option(
    "--loss", metavar="LOSS", help="A loss of the run by its label there, or any other by name or file. Default: the run's."
)
ADVANTAGE = typer.Option(
    metavar="ADVANTAGE",
    help="In the capture of a run whose advantage failed: call this one, by name or file. Default: the run's.",
    show_default=False,
)
SETS = typer.Option(
    "--set", metavar="OPTION=VALUE", help="Set an option of the losses that have it; LABEL.OPTION for one. Repeatable."
)
HTML = typer.Option("--html", metavar="FILE", help="Also write the token view: a page that needs no network.")
JSON = typer.Option("--json", help="Print everything as JSON, with the numbers of every token.")


def replay(
    capture: Annotated[Path, CAPTURE],
    losses: Annotated[list[str] | None, LOSSES] = None,
    advantage: Annotated[str | None, ADVANTAGE] = None,
    sets: Annotated[list[str] | None, SETS] = None,
    html: Annotated[Path | None, HTML] = None,
    as_json: Annotated[bool, JSON] = False,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Run losses on a captured batch: without model, GPU or engine.

    It shows what each loss is, how strong its gradient is, where it
    has none, how far the losses agree, and which tokens they push
    up or down most. A loss that failed in the run fails again here,
    and so does an advantage.
    """
    with reporting(show_traceback=show_traceback) as console:
        options = option_values(sets)
        with without_collections():
            from plugrad.replay.advantage_again import advantage_again
            from plugrad.replay.chosen_losses import chosen_losses
            from plugrad.replay.replay_outcome import replayed
            from plugrad.trainer.capture.capture_files import read_capture

        read = read_capture(capture)
        if advantage or (read.given and not losses):
            _check_is_alone(losses, html)
            again = advantage_again(read, advantage, options)
            _print_advantages(again, console, as_json=as_json)
            return
        found = replayed(read, chosen_losses(read, losses or [], options))
        if as_json:
            typer.echo(json.dumps(found.to_json(), allow_nan=False))
        else:
            _print(found, console)
        if html is not None:
            _write_view(found, html)
            if not as_json:
                console.print(f"token view   {html}", soft_wrap=True)
        found.check_finite()


def _check_is_alone(losses: list[str] | None, html: Path | None) -> None:
    if losses or html is not None:
        raise RunFileError(
            f"{'--loss' if losses else '--html'} is for what losses saw, and an advantage is called here: leave it out."
        )


def _print_advantages(again: AdvantageAgain, console: Console, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(plain(again.to_json()), allow_nan=False))
        return
    _print_failure(again.capture.facts, console)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("GROUP", justify="right")
    table.add_column("REWARDS")
    table.add_column("ADVANTAGES, mean over tokens")
    for number, (rewards, group) in enumerate(zip(again.rewards, again.advantages, strict=True)):
        means = [sum(tokens) / max(len(tokens), 1) for tokens in group]
        table.add_row(str(number), *(" ".join(f"{value:.4g}" for value in values) for values in (rewards, means)))
    console.print(table)
    console.print(Text(f"{again.reference} has not failed here."), soft_wrap=True)


def _print_failure(facts: Mapping[str, Any], console: Console) -> None:
    if facts["failed"]:
        console.print(Text(f"The run failed here: {facts['failed']['error'].splitlines()[0]}"), soft_wrap=True)


def _write_view(found: Replay, path: Path) -> None:
    from plugrad.paths import expanded, write_text
    from plugrad.report.token_view import token_view_html

    title = f"Step {found.capture.facts['step']}: {', '.join(loss.label for loss in found.losses)}"
    try:
        write_text(expanded(path), token_view_html(found.table.to_json(), title))
    except OSError as error:
        message = f"the token view cannot be written to {printable(path)}: {printable(error)}. Choose another --html."
        raise RunFileError(message) from error


def _print(found: Replay, console: Console) -> None:
    facts = found.capture.facts
    num = len(found.table.sequences)
    tokens = sum(sum(sequence.counted) for sequence in found.table.sequences)
    console.print(f"step {facts['step']}: {num:,} sequences, {tokens:,} counted tokens", style="bold", soft_wrap=True)
    _print_failure(facts, console)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("LOSS")
    for name in ("WEIGHT", "VALUE", "|dL/dlogprobs|", "NO GRADIENT"):
        table.add_column(name, justify="right", no_wrap=True)
    for loss in found.losses:
        numbers = (f"{loss.loss.weight:g}", f"{loss.value:.6g}", f"{loss.norm():.4g}", f"{found.without_gradient(loss):.1%}")
        table.add_row(Text(loss.label), *numbers)
    console.print(table)
    _print_cosines(found, console)
    for loss in found.losses:
        _print_pushed(found, loss, console)


def _print_cosines(found: Replay, console: Console) -> None:
    if not found.cosines:
        return
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("GRADIENTS OF")
    table.add_column("COSINE", justify="right")
    for (one, other), cosine in found.cosines.items():
        table.add_row(Text(f"{one}, {other}"), "-" if cosine is None else f"{cosine:+.3f}")
    console.print(table)


def _print_pushed(found: Replay, loss: ReplayedLoss, console: Console) -> None:
    rows = (
        ("raises", "green", found.hardest(loss, up=True)),
        ("lowers", "red", found.hardest(loss, up=False)),
        ("is not finite at", "yellow", found.not_finite(loss)),
    )
    console.print()
    if not any(pushed for *_, pushed in rows):
        console.print(Text(f"{loss.label} moves no log-prob."))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(Text(loss.label), no_wrap=True)
    table.add_column("dL/dlogprob", justify="right", no_wrap=True)
    table.add_column("TOKEN IN ITS TEXT", overflow="fold")
    for word, style, pushed in rows:
        for each in pushed:
            table.add_row(word, f"{each.gradient:+.3g}".replace("+nan", "nan"), _in_its_text(each, style))
    console.print(table)


def _in_its_text(pushed: PushedToken, style: str) -> Text:
    def line(text: str) -> str:
        return text.replace("\n", "\\n").replace("\t", "\\t")

    text = Text(line(pushed.before), style="dim")
    text.append(f"[{line(pushed.token)}]", style=f"bold {style} not dim")
    text.append(line(pushed.after))
    return text
