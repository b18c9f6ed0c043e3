"""Call an advantage again on the rollouts of a capture whose advantage failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.needs import ADVANTAGE_NEEDS
from plugrad.errors import PluginError, RunFileError
from plugrad.host.advantage import BoundAdvantage, per_token
from plugrad.host.load import load_component
from plugrad.host.prepared_advantages import prepared_and_computed
from plugrad.host.trial import random_state_of
from plugrad.registry.scan import scan
from plugrad.replay.run_hooks import folders_of, hooks_of
from plugrad.trainer.capture.capture_files import Capture

AROUND_ADVANTAGES = ("prepare_advantages", "compute_advantages")


@dataclass(frozen=True)
class AdvantageAgain:
    """What an advantage made of a captured batch."""

    capture: Capture
    reference: str
    rewards: list[list[float]]
    """By group and rollout, as the extensions prepared them."""
    advantages: list[list[list[float]]]
    """By group, rollout and token."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        facts = self.capture.facts
        numbers = {"rewards": self.rewards, "advantages": self.advantages}
        return {"step": facts["step"], "failed": facts["failed"], "advantage": self.reference, **numbers}


def advantage_again(capture: Capture, asked: str | None = None, sets: Mapping[str, Any] | None = None) -> AdvantageAgain:
    """Call an advantage on the rollouts of all ranks. The run's extensions around it are new instances, and so is it.

    Args:
        capture: of a run whose advantage failed.
        asked: the advantage; the run's, with its options, if none is given.
        sets: options.

    Raises:
        RunFileError: the advantage did not fail in this capture.
        PlugradError: it is not found, needs what the capture does not have, or fails, as it would in a run.
    """
    if capture.given is None:
        raise RunFileError("this capture holds what losses saw, and no rollouts for an advantage: give --loss instead.")
    table: Mapping[str, Any] = capture.facts["run_file"]["advantage"]
    reference = asked or table["name"]
    options = {**(table.get("kwargs", {}) if reference == table["name"] else {}), **(sets or {})}
    component = load_component("advantage", reference, options, scan(), folders_of(capture))
    advantage = BoundAdvantage(component, component.create())
    _check_has_needs(advantage, capture.given)
    hooks = hooks_of(capture, AROUND_ADVANTAGES, advantage)
    with random_state_of(int(capture.facts["run_file"].get("seed", 0))):
        inputs, outputs = prepared_and_computed(hooks, capture.given)
    advantages = per_token(outputs, capture.given.completion_lengths.tolist())
    return AdvantageAgain(capture, reference, inputs.rewards.tolist(), advantages)


def _check_has_needs(advantage: BoundAdvantage, given: AdvantageInputs) -> None:
    lacking = sorted(name for name in advantage.needs & ADVANTAGE_NEEDS if getattr(given, name) is None)
    if lacking:
        raise PluginError(
            f"{advantage.component} cannot be called on this capture: it needs {' and '.join(lacking)}, which the run did "
            "not compute for its own advantage."
        )
