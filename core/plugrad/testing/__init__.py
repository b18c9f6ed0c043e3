"""The kit for authors of plugins and engines: checks of what they promise, and the two fakes that tests may use.

Names are loaded when they are first used: a check of a metric need not import Transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugrad.testing.advantages import advantage_checks as advantage_checks
    from plugrad.testing.checks import KIT_VERSION as KIT_VERSION
    from plugrad.testing.checks import Check as Check
    from plugrad.testing.checks import CheckFailure as CheckFailure
    from plugrad.testing.checks import NotApplicable as NotApplicable
    from plugrad.testing.checks import Outcome as Outcome
    from plugrad.testing.checks import Promise as Promise
    from plugrad.testing.checks import Result as Result
    from plugrad.testing.checks import run_checks as run_checks
    from plugrad.testing.engines import check_engine as check_engine
    from plugrad.testing.engines import engine_checks as engine_checks
    from plugrad.testing.environments import environment_checks as environment_checks
    from plugrad.testing.extensions import extension_checks as extension_checks
    from plugrad.testing.inputs import loss_inputs as loss_inputs
    from plugrad.testing.inputs import metric_inputs as metric_inputs
    from plugrad.testing.inputs import rollouts as rollouts
    from plugrad.testing.kinds import checks_of as checks_of
    from plugrad.testing.kinds import conformance as conformance
    from plugrad.testing.losses import loss_checks as loss_checks
    from plugrad.testing.metrics import metric_checks as metric_checks
    from plugrad.testing.models import tiny_model as tiny_model
    from plugrad.testing.models import tiny_tokenizer as tiny_tokenizer

_HOMES = {
    "plugrad.testing.advantages": ["advantage_checks"],
    "plugrad.testing.checks": [
        "KIT_VERSION",
        "Check",
        "CheckFailure",
        "NotApplicable",
        "Outcome",
        "Promise",
        "Result",
        "run_checks",
    ],
    "plugrad.testing.kinds": ["checks_of", "conformance"],
    "plugrad.testing.engines": ["check_engine", "engine_checks"],
    "plugrad.testing.environments": ["environment_checks"],
    "plugrad.testing.extensions": ["extension_checks"],
    "plugrad.testing.inputs": ["loss_inputs", "metric_inputs", "rollouts"],
    "plugrad.testing.losses": ["loss_checks"],
    "plugrad.testing.metrics": ["metric_checks"],
    "plugrad.testing.models": ["tiny_model", "tiny_tokenizer"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'plugrad.testing' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
