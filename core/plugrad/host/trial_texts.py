"""What the pre-flight knows about the run's texts: how examples will read, and over how many tokens logits go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.errors import ContractError
from plugrad.host.made_up import VOCABULARY


@dataclass(frozen=True)
class TrialTexts:
    """What the run will make of texts, for a trial that resembles it."""

    vocabulary: int = VOCABULARY
    """The number of logits at a position."""
    prompt: Callable[[Example], str] = lambda example: str(example["prompt"])
    completion: Callable[[Example, int], str] = lambda example, member: given_text(example, member) or ""
    """The reference of the rollout at this place of a group, as the environment will see it."""
    replays: bool = False
    """Whether completions are replayed, and so have no log-probs of an engine."""


def given_text(example: Example, member: int) -> str | None:
    """Return the example's `references` at the place `member`, or its `reference`; None if there is none."""
    several: Any = example.get("references")
    listed = isinstance(several, list | tuple) and member < len(several)
    text: Any = several[member] if listed else example.get("reference")
    return text if isinstance(text, str) else None


MADE_UP_TEXTS = TrialTexts()
"""Where no tokenizer is known."""


@contextmanager
def saying_it_is_a_trial(texts: TrialTexts) -> Iterator[None]:
    """Add to the error of a component that raised in the body that its inputs were made up."""
    try:
        yield
    except ContractError as error:
        if error.__cause__ is None:
            raise
        raise type(error)(
            f"{error} (This was a trial before the model is loaded, with made-up tokens, log-probs and logits for a "
            f"vocabulary of {texts.vocabulary}.)"
        ) from error.__cause__
