"""The public names. Type checkers read this file, and `lazy_names` imports from where it says."""

from plugrad.config.run_file import RunFile as RunFile
from plugrad.contracts.advantage import AdvantageInputs as AdvantageInputs
from plugrad.contracts.advantage import AdvantageOutputs as AdvantageOutputs
from plugrad.contracts.environment import Environment as Environment
from plugrad.contracts.loss import BatchLossInputs as BatchLossInputs
from plugrad.contracts.loss import LossInputs as LossInputs
from plugrad.contracts.loss import LossOutputs as LossOutputs
from plugrad.contracts.loss import SelectedLoss as SelectedLoss
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
from plugrad.errors import TrainingError as TrainingError
from plugrad.formulas.ratios import at_least_float32 as at_least_float32
from plugrad.formulas.ratios import finite_exp as finite_exp
from plugrad.formulas.ratios import k3 as k3
from plugrad.formulas.residues import equal_rewards as equal_rewards
from plugrad.formulas.residues import no_signal as no_signal
from plugrad.hookspecs import hookimpl as hookimpl
from plugrad.host.load import load as load
from plugrad.host.loaded import LoadedAdvantage as LoadedAdvantage
from plugrad.host.loaded import LoadedLoss as LoadedLoss
from plugrad.host.loaded import LoadedMetric as LoadedMetric
from plugrad.host.own_inputs import prepared_rows as prepared_rows
from plugrad.json_text import read_json_lines as read_json_lines
from plugrad.registry.resolve import resolve_callable as resolve_callable
from plugrad.run import Run as Run
from plugrad.run_result import RunInterrupted as RunInterrupted
from plugrad.run_result import RunResult as RunResult
from plugrad.trainer.train import train as train

__version__: str
