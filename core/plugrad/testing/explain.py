"""What to say about an error that a component on trial raised: what was seen, why it matters, and the fix."""

from __future__ import annotations

from dataclasses import dataclass

from plugrad.errors import ContractError, PlugradError
from plugrad.host.author import line_of
from plugrad.testing.trial_examples import MissingColumn

STOPS = "A run stops with this error before it trains."


@dataclass(frozen=True)
class Explained:
    """A failure, explained."""

    seen: str
    why: str
    fix: str


def explained(error: PlugradError, usual: Explained, *, is_first: bool) -> Explained:
    """Return the explanation of an error.

    Args:
        error: what the host raised about the component.
        usual: what the promise says about itself.
        is_first: the component was called in the ordinary way, so the error is its own and no condition of the check's.
    """
    cause = error.__cause__
    if isinstance(cause, MissingColumn):
        return Explained(str(error), STOPS, cause.remedy)
    if isinstance(error, ContractError) and error.fix:
        made_up = " The rollouts of a trial are made up." if type(cause) is KeyError else ""
        return Explained(error.seen, error.why or STOPS, error.fix + made_up)
    if not is_first:
        return usual
    line = line_of(cause) if cause is not None else None
    return Explained(str(error), STOPS, f"Look at {line}." if line else "")
