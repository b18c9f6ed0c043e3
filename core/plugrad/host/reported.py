"""Metrics as a plugin reports them, added to measures in its name."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from plugrad.contracts.measures import Measures, as_measure
from plugrad.errors import ContractError
from plugrad.shown import shown

logger = logging.getLogger("plugrad")


LONGEST_NAME = 200


def metric_name(owner: str, name: object, place: str = "") -> str:
    """Return the name of a metric that a plugin reports.

    Args:
        owner: whose metric it is, and what was done with it: "the loss 'x' (mine.py) returned".
        name: what the plugin calls it.
        place: where that was, for messages: ", for the completion 'x'".

    Raises:
        ContractError: it is no text, too long, or has a character that does not print.
    """
    if not isinstance(name, str):
        raise ContractError(f"{owner} a metric named {shown(name)}{place}; a name is text.")
    if not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ContractError(
            f"{owner} a metric named {shown(name)}{place}; a name has 1 to {LONGEST_NAME} characters that all print: "
            "it is a key of the run's record and a word on the screen."
        )
    return name


def add_reported(measures: Measures, key: str, value: object, num_sequences: int, told: str) -> None:
    """Add one value that a plugin reports. None adds nothing: the metric is undefined for these sequences.

    Args:
        measures: where it is added.
        key: its name there.
        value: what the plugin reports.
        num_sequences: how many sequences a scalar stands for.
        told: who reported what, for messages: "the loss 'x' (mine.py) returned the metric 'kl'".

    Raises:
        ContractError: it is no metric, or of another type than the values before.
    """
    if value is None:
        return
    try:
        measures.add(key, as_measure(value, num_sequences=num_sequences))
    except (TypeError, ValueError, OverflowError) as error:
        raise ContractError(f"{told}: {error}.") from error


def add_metrics(
    measures: Measures, reported: Mapping[str, object], num_sequences: int, did: str, *, noun: str = "", prefix: str = ""
) -> None:
    """Add all metrics that a plugin reports.

    Args:
        measures: where they are added.
        reported: what the plugin reports, by name.
        num_sequences: how many sequences a scalar stands for.
        did: who reported them, for messages: "the loss 'x' (mine.py) returned".
        noun: what stands before a metric's name in a message about its value: "the metric ".
        prefix: what stands before a metric's name in the measures.

    Raises:
        ContractError: a name or a value is none that a metric can have.
    """
    for name, value in reported.items():
        metric_name(did, name)
        add_reported(measures, f"{prefix}{name}", value, num_sequences, f"{did} {noun}{name!r}")


def warn_of_nan(owner: str, measures: Measures) -> None:
    """Warn if one of a plugin's metrics is NaN for ordinary numbers: it would be lost for the whole step."""
    for name, measure in measures.on_cpu().items():
        if any(math.isnan(part) for part in vars(measure).values()):
            logger.warning(
                "%s returned the metric %r = nan, and one NaN makes the whole step's value NaN. Where a sequence has none, "
                "return None, which leaves it out, or Mean.over(values, mask).",
                owner,
                name,
            )
