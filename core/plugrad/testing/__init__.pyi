"""The names of the kit. Type checkers read this file, and `lazy_names` imports from where it says."""

from plugrad.testing.advantages import advantage_checks as advantage_checks
from plugrad.testing.checks import KIT_VERSION as KIT_VERSION
from plugrad.testing.checks import Check as Check
from plugrad.testing.checks import CheckFailure as CheckFailure
from plugrad.testing.checks import NotApplicable as NotApplicable
from plugrad.testing.checks import NotRun as NotRun
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
from plugrad.testing.scripted import scripted_policy as scripted_policy
