"""Every error that plugrad raises on purpose.

::

    PlugradError(ValueError)
    ├── RunFileError     a run file, or an override of it, has a wrong key or value
    │   └── ResumeError  a run cannot go on from its checkpoints
    ├── PluginError      a plugin is missing, ambiguous, cannot be imported, or cannot be created
    │   └── OptionError  a plugin does not take these options
    ├── ContractError    a plugin raised, or broke its contract
    │   ├── InputsChanged    a plugin changed its inputs in place
    │   ├── WronglyMade      an object of the contract was made with a missing, unknown or wrong field
    │   └── FieldMissing     a plugin read an optional field that it did not ask for
    ├── ModelError       a model or tokenizer cannot be loaded or used
    ├── DataError        an example, a prompt, a completion or a reward is invalid
    ├── EngineError      a rollout engine cannot be started or reached, or returned an invalid response
    │   └── ServersLost  no server of an engine answers, or one has ended
    └── TrainingError    a run that had started cannot continue
        └── RankError    another rank failed, so this one stops too

    RunInterrupted(KeyboardInterrupt)    a signal ended a run after a complete step (in plugrad.run_result)

Each message states what was asked, what was found and whose it is, and what to do next. The command line prints the message
without a traceback and exits with code 2, or with code 1 once training has begun. After a signal it exits with 128 plus the
signal's number.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from plugrad.shown import LIMIT, printable_message, shown

if TYPE_CHECKING:
    from collections.abc import Iterable


class PlugradError(ValueError):
    """The base of every error that plugrad raises on purpose. Catch it to catch them all."""

    is_known_to_all = False
    """Whether every rank of the run knows about this error."""
    exit_code = 2
    """Of the command that it ends: 1 once training has begun."""
    may_pass = False
    """Whether the same run may succeed if it is started again: a process or a server was lost, and nothing is wrong."""

    def __str__(self) -> str:
        """Return the message, bounded and printable whatever a message quotes."""
        return printable_message(super().__str__())


class RunFileError(PlugradError):
    """A run file, or an override of it, has a wrong key or value."""


class ResumeError(RunFileError):
    """A run cannot go on from its checkpoints: it has changed, or they do not fit it."""


class PluginError(PlugradError):
    """A plugin is missing, ambiguous, or cannot be imported; or a new plugin package cannot be created."""


class OptionError(PluginError):
    """A plugin does not take these options."""


class ContractError(PlugradError):
    """A plugin raised, or broke its contract. Its own exception is the `__cause__`.

    The message is what was seen, why it matters and what to do, in this order; each part is also an attribute.
    """

    def __init__(self, seen: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(" ".join(part for part in (seen, why, fix) if part))
        self.seen = seen
        self.why = why
        self.fix = fix


class InputsChanged(ContractError):
    """A plugin changed its inputs in place. Other components receive the same tensors."""


class WronglyMade(ContractError):
    """An object that plugins receive or return was made with a missing, unknown or wrong field."""


class FieldMissing(ContractError):
    """A plugin read an optional field of its inputs that it did not ask for."""


class ModelError(PlugradError):
    """A model or its tokenizer cannot be loaded or used."""


class DataError(PlugradError):
    """An example, a prompt, a completion or a reward is invalid."""


class EngineError(PlugradError):
    """A rollout engine cannot be started or reached, or returned an invalid response."""


class ServersLost(EngineError):
    """No server of a rollout engine answers, or one has ended."""

    may_pass = True


class TrainingError(PlugradError):
    """A run that had started cannot continue."""


class RankError(TrainingError):
    """Another rank failed, so this one stops too. The message is the other rank's."""

    is_told = False
    """Whether the launcher tells it: the rank cannot."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """The exit code of the rank that failed."""


def with_article(noun: str) -> str:
    """Return "a loss", "an advantage"."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def counted(number: int, noun: str, of_many: str = "") -> str:
    """Return "1 weight", "2 weights", or another form of the noun for many."""
    return f"{number:,} {noun if number == 1 else of_many or f'{noun}s'}"


CLOSE = 0.7
"""How alike two words must be for one to be a slip of the pen for the other: 'timing' is none for 'nothing'."""

SHORTEST_PART = 4
"""From this length on, the beginning of a word counts as that word."""


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest of `known`, whatever its case and dashes, or the empty string."""
    if len(asked) > LIMIT:
        # The comparison takes time quadratic in the length.
        return ""
    # A set has another order in every process.
    names = sorted(known) if isinstance(known, (set, frozenset)) else list(known)
    plain = {_plain(name): name for name in reversed(names)}
    word = _plain(asked)
    nearest = [word] if word in plain else get_close_matches(word, plain, n=1, cutoff=CLOSE)
    if not nearest and len(asked) >= SHORTEST_PART:
        nearest = [name for name in map(_plain, names) if name.startswith(word)][:1]
    return f" Did you mean {shown(plain[nearest[0]])}?" if nearest else ""


def _plain(name: str) -> str:
    """Return a name without what is easily mistaken: capitals, and dashes or spaces for underscores."""
    return name.casefold().replace("-", "_").replace(" ", "_")
