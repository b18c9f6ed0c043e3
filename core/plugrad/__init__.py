"""plugrad: a plugin ecosystem for reinforcement-learning post-training of language models.

Everything a plugin or a user imports is here. Names are loaded when they are first used: `import plugrad` imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plugrad.config.run_file import RunFile as RunFile
    from plugrad.contracts.advantage import AdvantageInputs as AdvantageInputs
    from plugrad.contracts.advantage import AdvantageOutputs as AdvantageOutputs
    from plugrad.contracts.environment import Environment as Environment
    from plugrad.contracts.loss import BatchLossInputs as BatchLossInputs
    from plugrad.contracts.loss import LossInputs as LossInputs
    from plugrad.contracts.loss import LossOutputs as LossOutputs
    from plugrad.contracts.markers import CallableReference as CallableReference
    from plugrad.contracts.markers import advantage as advantage
    from plugrad.contracts.markers import loss as loss
    from plugrad.contracts.markers import metric as metric
    from plugrad.contracts.measures import Max as Max
    from plugrad.contracts.measures import Mean as Mean
    from plugrad.contracts.measures import Measure as Measure
    from plugrad.contracts.measures import Min as Min
    from plugrad.contracts.measures import Sum as Sum
    from plugrad.contracts.metric import MetricInputs as MetricInputs
    from plugrad.contracts.rollout import Rollout as Rollout
    from plugrad.errors import ContractError as ContractError
    from plugrad.errors import DataError as DataError
    from plugrad.errors import ModelError as ModelError
    from plugrad.errors import OptionError as OptionError
    from plugrad.errors import PluginError as PluginError
    from plugrad.errors import PlugradError as PlugradError
    from plugrad.errors import RunFileError as RunFileError
    from plugrad.errors import RunInterrupted as RunInterrupted
    from plugrad.errors import TrainingError as TrainingError
    from plugrad.hookspecs import hookimpl as hookimpl
    from plugrad.host.load import LoadedLoss as LoadedLoss
    from plugrad.host.load import load as load
    from plugrad.registry.resolve import resolve_callable as resolve_callable
    from plugrad.trainer.run import Run as Run
    from plugrad.trainer.run import RunResult as RunResult
    from plugrad.trainer.train import train as train

__version__ = "0.1.0"
"""The version of plugrad."""

_HOMES = {
    "plugrad.config.run_file": ["RunFile"],
    "plugrad.contracts.advantage": ["AdvantageInputs", "AdvantageOutputs"],
    "plugrad.contracts.environment": ["Environment"],
    "plugrad.contracts.loss": ["BatchLossInputs", "LossInputs", "LossOutputs"],
    "plugrad.contracts.markers": ["CallableReference", "advantage", "loss", "metric"],
    "plugrad.contracts.measures": ["Max", "Mean", "Measure", "Min", "Sum"],
    "plugrad.contracts.metric": ["MetricInputs"],
    "plugrad.contracts.rollout": ["Rollout"],
    "plugrad.errors": [
        "ContractError",
        "DataError",
        "ModelError",
        "OptionError",
        "PluginError",
        "PlugradError",
        "RunFileError",
        "RunInterrupted",
        "TrainingError",
    ],
    "plugrad.hookspecs": ["hookimpl"],
    "plugrad.host.load": ["LoadedLoss", "load"],
    "plugrad.registry.resolve": ["resolve_callable"],
    "plugrad.trainer.run": ["Run", "RunResult"],
    "plugrad.trainer.train": ["train"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'plugrad' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
