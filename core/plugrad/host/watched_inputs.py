"""Which fields of its inputs a metric reads, and the refusal of those that were not computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.needs import GIVEN_TO_METRICS
from plugrad.errors import ContractError

WATCH = "_watch"


@dataclass(frozen=True)
class Watch:
    """Sees the calls of one metric."""

    owner: str = ""
    """The metric, for messages."""
    lacking: frozenset[str] = frozenset()
    """Fields that were not computed, because the metric did not read them before."""
    noted: set[str] = field(default_factory=set)
    """The names that it has read."""

    def around(self, call: Callable[[MetricInputs], Any]) -> Callable[[MetricInputs], Any]:
        """Return the call with inputs that are watched. They have the same values."""

        def watched(inputs: MetricInputs) -> Any:
            seen = object.__new__(_Watched)
            vars(seen).update(vars(inputs), **{WATCH: self})
            return call(seen)

        return watched

    def read(self, name: str) -> None:
        """Note that a field is read.

        Raises:
            ContractError: it was not computed.
        """
        self.noted.add(name)
        if name in self.lacking:
            raise ContractError(
                f"{self.owner} reads inputs.{name} of held-out completions. It was not computed, because the metric did not "
                "read it in the pre-flight.",
                fix=f"Say that it may: @metric(needs={{{name!r}}}).",
            )


class _Watched(MetricInputs):
    """The inputs that a metric gets. What copies them gets ordinary ones."""

    def __getattribute__(self, name: str) -> Any:
        watch = object.__getattribute__(self, "__dict__").get(WATCH)
        # Whoever looks into the attributes sees all of them.
        for read in () if watch is None else GIVEN_TO_METRICS if name == "__dict__" else (name,):
            watch.read(read)
        return object.__getattribute__(self, name)


# Errors name the class.
_Watched.__name__, _Watched.__qualname__ = MetricInputs.__name__, MetricInputs.__qualname__
