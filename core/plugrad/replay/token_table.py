"""A captured batch token by token: what each token is, what the losses read of it, and what they do to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from plugrad.json_text import plain
from plugrad.replay.captured_rows import CapturedRow, RowsOfRollouts
from plugrad.replay.clipped_tokens import clipped_tokens
from plugrad.replay.replaying import ReplayedLoss
from plugrad.shown import escaped
from plugrad.trainer.capture.capture_files import Capture
from plugrad.trainer.update.weighted_losses import Rows

LENGTH_OF_TITLE = 60


@dataclass(frozen=True)
class TokenSequence:
    """One rollout, or one segment of it. Every list has one entry a token, prompt first."""

    title: str
    step: int
    update: int
    """Which update of the step it was trained on in, counted from 0."""
    group: int
    member: int
    reward: float | None
    tokens: Sequence[str]
    """As they read, special ones too; characters that a terminal would obey are escaped."""
    prompt_length: int
    counted: Sequence[bool]
    values: Mapping[str, Sequence[float | None]]
    """By name: `advantage`, `ratio`, `entropy`, `mismatch`, and `gradient: LABEL` of each loss. None where there is none."""
    marks: Mapping[str, Sequence[bool]]
    """By name: `masked`, `given` where the environment wrote between replies, and `clipped: LABEL` of each loss."""
    segment: int | None = None
    """Of a rollout in several segments: which one it is, counted from 0."""


@dataclass(frozen=True)
class TokenTable:
    """The rollouts of a captured batch, token by token."""

    sequences: Sequence[TokenSequence]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it. A number that is not finite is the text "nan", "inf" or "-inf"."""
        return {"sequences": [plain({**vars(sequence)}) for sequence in self.sequences]}


def token_table(capture: Capture, replayed: Sequence[ReplayedLoss]) -> TokenTable:
    """Return the tokens of a capture with the gradients of losses, `dL/d log-prob` of the weighted objective.

    Where it is negative, the update raises the log-prob of the token.
    """
    rows_of = RowsOfRollouts(capture.facts["rollouts"])
    clipped = {each.label: clipped_tokens(capture, each) for each in replayed}
    sequences = [
        _sequence(capture, rows_of, piece, number, row, effects)
        for number, update in enumerate(capture.updates)
        for place, piece in enumerate(update.pieces)
        for effects in [
            {
                each.label: (
                    each.of_logprobs(number, place, piece.inputs.trainer_logprobs),
                    clipped[each.label][number][place],
                )
                for each in replayed
            }
        ]
        for row in range(len(piece.inputs.loss_mask))
    ]
    return TokenTable(sorted(sequences, key=lambda s: (s.update, s.group, s.member, s.segment or 0)))


@dataclass(frozen=True)
class PushedToken:
    """A token that a loss pushes hard."""

    gradient: float
    """Of the weighted objective by its log-prob: negative where the update raises it."""
    token: str
    before: str
    after: str
    sequence: TokenSequence
    place: int


def pushed_hardest(table: TokenTable, label: str, num: int, *, up: bool) -> list[PushedToken]:
    """Return the tokens whose log-probs a loss raises, or lowers, most: the first one most."""
    pushed = [each for each in _pushed(table, label) if math.isfinite(each.gradient)]
    found = sorted(pushed, key=lambda each: each.gradient if up else -each.gradient)
    return [each for each in found[:num] if (each.gradient < 0 if up else each.gradient > 0)]


def pushed_to_nan(table: TokenTable, label: str, num: int) -> list[PushedToken]:
    """Return the first tokens at which the gradient of a loss is not finite."""
    return list(islice((each for each in _pushed(table, label) if not math.isfinite(each.gradient)), num))


def _pushed(table: TokenTable, label: str) -> Iterator[PushedToken]:
    for sequence in table.sequences:
        for place, gradient in enumerate(sequence.values[f"gradient: {label}"]):
            if gradient:
                yield PushedToken(gradient, sequence.tokens[place], *_around(sequence, place), sequence, place)


def _around(sequence: TokenSequence, place: int, num: int = 8) -> tuple[str, str]:
    return "".join(sequence.tokens[max(0, place - num) : place]), "".join(sequence.tokens[place + 1 : place + 1 + num])


def _sequence(
    capture: Capture,
    rows_of: RowsOfRollouts,
    piece: Rows,
    number: int,
    row: int,
    effects: Mapping[str, tuple[Tensor, Tensor]],
) -> TokenSequence:
    inputs = piece.inputs
    assert inputs.group_ids is not None
    assert inputs.member is not None
    assert inputs.input_ids is not None
    group, member = int(inputs.group_ids[row]), int(inputs.member[row])
    rollout = capture.rollouts.get((group, member), {})
    counted = inputs.loss_mask[row]
    length = int(counted.nonzero().max()) + 1
    counted = counted[:length]
    ids = inputs.input_ids[row, :length].tolist()
    of_rollout = rows_of.next((number, group, member), ids, int(counted.nonzero().min()))
    values = {name: _numbers(number_of[row, :length], counted) for name, number_of in _numbers_of(inputs)}
    marks = _marks(of_rollout, counted.tolist())
    for label, (gradient, clipped) in effects.items():
        values[f"gradient: {label}"] = _numbers(gradient[row, :length], counted)
        marks[f"clipped: {label}"] = clipped[row, :length].tolist()
    start = " ".join(str(rollout.get("prompt", "")).split())
    which = f", segment {of_rollout.number + 1} of {of_rollout.count}" if of_rollout.count > 1 else ""
    return TokenSequence(
        title=escaped(f"group {group}, rollout {member}{which}" + f": {start[:LENGTH_OF_TITLE]}" * bool(start)),
        step=int(capture.facts["step"]),
        update=number,
        group=group,
        member=member,
        reward=None if inputs.reward is None else float(inputs.reward[row]),
        tokens=[escaped(capture.text_of(token)) for token in ids],
        prompt_length=of_rollout.prompt_length,
        counted=counted.tolist(),
        values=values,
        marks=marks,
        segment=of_rollout.number if which else None,
    )


def _marks(of_rollout: CapturedRow, counted: Sequence[bool]) -> dict[str, list[bool]]:
    given = [of_rollout.is_given(place) for place in range(len(counted))]
    left = [place >= of_rollout.prompt_length and not counts for place, counts in enumerate(counted)]
    masked = [is_left and not is_given for is_left, is_given in zip(left, given, strict=True)]
    return {"masked": masked, **({"given": given} if any(given) else {})}


def _numbers_of(inputs: Any) -> Iterator[tuple[str, Tensor]]:
    yield "advantage", inputs.advantages
    if inputs.old_logprobs is not None:
        yield "ratio", (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    if inputs.entropy is not None:
        yield "entropy", inputs.entropy
    yield "mismatch", inputs.trainer_logprobs - inputs.inference_logprobs


def _numbers(values: Tensor, counted: Tensor) -> list[float | None]:
    return [value if counts else None for value, counts in zip(values.tolist(), counted.tolist(), strict=True)]
