"""Arms: the variants that a comparison compares. An arm is a name and what it changes in the run file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from plugrad.config.override import Override
from plugrad.errors import RunFileError, did_you_mean

AS_IT_IS = "run-file"
"""The arm that changes nothing."""
NOT_IN_AN_ARM = {"seed": "choose the seeds of every arm with --seeds", "output_dir": "choose the folder with --output-dir"}
TAKEN = ("comparison.json", "comparison.json.unfinished", "table.md", "table.md.unfinished", "curves.svg")
"""Files of the comparison beside the folders of its arms."""
MAX_ARMS, LONGEST_NAME = 1000, 200
NAMED = re.compile(r"\s*(?P<name>[^:=]*[^:=\s])\s*:(?:\s+(?P<overrides>.*))?", flags=re.DOTALL)
OPENING, CLOSING, QUOTES = "[{(", "]})", "'\""


@dataclass(frozen=True)
class Arm:
    """A name, and what differs from the run file."""

    name: str
    overrides: tuple[Override, ...] = ()

    @property
    def folder(self) -> str:
        """The name in a form that a folder can have."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-.") or "arm"


def arms_of(varied: Sequence[str], written: Sequence[str], baseline: str | None = None) -> list[Arm]:
    """Return the arms in order: every combination of the `varied` values, then the `written` ones.

    The unchanged run file comes first if nothing is varied or the baseline is `run-file`.

    Raises:
        RunFileError: an option is malformed, or two arms have the same name.
    """
    written_out = [_read_arm(text) for text in written]
    values = [_read_values(text) for text in varied]
    number_of_arms = len(written) + prod(map(len, values))
    if number_of_arms > MAX_ARMS:
        raise RunFileError(f"these are {number_of_arms} arms, and a comparison has {MAX_ARMS} at most. Vary less at once.")
    combinations = [_combined(overrides) for overrides in product(*values)] if varied else []
    is_there = any(not arm.overrides for arm in written_out)
    as_it_is = [Arm(AS_IT_IS)] if (not varied and not is_there) or baseline == AS_IT_IS else []
    arms = [*as_it_is, *combinations, *written_out]
    for number, arm in enumerate(arms):
        if arm.folder.casefold() in TAKEN:
            raise RunFileError(
                f"an arm cannot be called {arm.name!r}: the comparison has a file of that name. Choose another."
            )
        if len(arm.folder.encode()) > LONGEST_NAME:
            raise RunFileError(
                f"the name of the arm {arm.name[:60]!r}... is longer than {LONGEST_NAME} bytes, and it names a folder. Name "
                "it: --arm 'NAME: table.key=value'."
            )
        if arm.folder in [earlier.folder for earlier in arms[:number]]:
            raise RunFileError(
                f"two arms are called {arm.name!r}. Leave one out, or name it: --arm 'NAME: table.key=value'."
            )
    return arms


def baseline_of(arms: Sequence[Arm], name: str | None) -> Arm:
    """Return the arm that the others are compared with: the one called `name`, or the first.

    Raises:
        RunFileError: no arm has that name.
    """
    if name is None:
        return arms[0]
    called = [arm for arm in arms if name in (arm.name, arm.folder)]
    with_value = [arm for arm in arms if name in [override.text.partition("=")[2] for override in arm.overrides]]
    if called or len(with_value) == 1:
        return (called or with_value)[0]
    names = [arm.name for arm in arms]
    raise RunFileError(
        f"--baseline {name!r}: no arm has that name.{did_you_mean(name, names)} Arms: {', '.join(names)}. "
        f"{AS_IT_IS!r} is the unchanged run file."
    )


def split_outside(text: str, separators: str) -> list[str]:
    """Split at the separators that are outside brackets and quotes."""
    pieces, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES:
            quote = character
        else:
            depth += (character in OPENING) - (character in CLOSING)
        if character in separators and not depth and not quote:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces]


def _read_values(text: str) -> list[tuple[str, Override]]:
    """Return each value of a `--vary` as an override, with its name."""
    key, _, values = text.partition("=")
    pieces = split_outside(values, ",")
    if not all(pieces):
        raise RunFileError(f"--vary {text!r}: write --vary table.key=VALUE,VALUE, as in --vary optimizer.lr=1e-5,1e-6.")
    overrides = [_checked(Override(f"{key.strip()}={piece}", "--vary")) for piece in pieces]
    short = [_short(override) for override in overrides]
    if len(set(short)) < len(short):
        short = [override.text.removeprefix(f"{key.strip()}=") for override in overrides]
    return list(zip(short, overrides, strict=True))


def _read_arm(text: str) -> Arm:
    """Return the arm that an `--arm` describes."""
    match = NAMED.fullmatch(text)
    if match is None:
        raise RunFileError(f"--arm {text!r}: write --arm 'NAME: table.key=value table.key=value'.")
    pieces = filter(None, split_outside(match["overrides"] or "", " \t\n"))
    return Arm(match["name"], tuple(_checked(Override(piece, "--arm")) for piece in pieces))


def _combined(overrides: Sequence[tuple[str, Override]]) -> Arm:
    return Arm(" ".join(name for name, _ in overrides), tuple(override for _, override in overrides))


def _short(override: Override) -> str:
    """Return `gspo` for `loss.name=plugrad-policy/gspo`, and `lr=1e-5` for `optimizer.lr=1e-5`."""
    last, value = override.key[-1], override.text.partition("=")[2]
    if last == "name":
        return value.strip(QUOTES).rpartition(":")[2].rpartition("/")[2]
    return f"{last}={value}"


def _checked(override: Override) -> Override:
    instead = NOT_IN_AN_ARM.get(".".join(override.key))
    if instead:
        raise RunFileError(f"{override}: an arm cannot set this; {instead}.")
    return override
