"""Every error that plugrad raises on purpose.

::

    PlugradError(ValueError)
    ├── RunFileError     a run file, or an override of it, says what cannot be
    ├── PluginError      a plugin cannot be found, told apart, imported, or begun
    │   └── OptionError  a plugin does not take these options
    ├── ContractError    a plugin returned or did what its contract forbids, or raised
    │   └── InputsChanged    it changed what it was given
    ├── ModelError       a model or tokenizer cannot be loaded or used
    ├── DataError        an example, a prompt, a completion or a reward is not what it must be
    ├── EngineError      a rollout engine cannot be started or reached, or answers what it must not
    └── TrainingError    a run that had started cannot go on
        └── RankError    another rank failed, and this one stops with it

    RunInterrupted(KeyboardInterrupt)    a signal ended a run after a whole step

Each message says what was asked, what was found and whose it is, and what to do next. The command line prints it
without a traceback and exits with code 2; after a signal with 128 and the signal's number.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class PlugradError(ValueError):
    """The base of every deliberate error; catch it to catch them all."""

    is_known_to_all = False
    """Whether the ranks of a run have told each other of it."""


class RunFileError(PlugradError):
    """A run file, or an override of it, says what cannot be."""


class PluginError(PlugradError):
    """A plugin cannot be found, told apart from another, or imported; or a new one cannot be begun."""


class OptionError(PluginError):
    """A plugin does not take the options that it was given."""


class ContractError(PlugradError):
    """A plugin returned or did what its contract forbids, or raised. Its own exception is the `__cause__`."""


class InputsChanged(ContractError):
    """A plugin changed its inputs in place, which others are given too."""


class ModelError(PlugradError):
    """A model or its tokenizer cannot be loaded or used."""


class DataError(PlugradError):
    """An example, a prompt, a completion or a reward is not what it must be."""


class EngineError(PlugradError):
    """A rollout engine cannot be started or reached, or answers what it must not."""


class TrainingError(PlugradError):
    """A run that had started cannot go on."""


class RankError(TrainingError):
    """Another rank failed, and this one stops with it. The message is the other's."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """Of the rank that failed."""


def with_article(noun: str) -> str:
    """Return "a loss", "an advantage"."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest of `known`, or the empty string."""
    nearest = get_close_matches(asked, list(known), n=1, cutoff=0.6)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
