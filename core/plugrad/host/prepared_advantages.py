"""Call the advantage with the extensions around it: in a run, and again on a batch that a run has kept."""

from __future__ import annotations

from dataclasses import replace

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.host.advantage import with_prepared_rewards
from plugrad.host.hooks import Hooks
from plugrad.host.received import copies_of_groups


def prepared_and_computed(hooks: Hooks, given: AdvantageInputs) -> tuple[AdvantageInputs, AdvantageOutputs]:
    """Return the inputs as the extensions prepared them, and what the advantage made of them.

    Raises:
        ContractError: the advantage or an extension raised, or broke its contract.
    """
    # Copies: what is trained on stays as it is, whatever an advantage or an extension does to its inputs.
    copied = replace(given, rollouts=copies_of_groups(given.rollouts))
    inputs = with_prepared_rewards(hooks.prepare_advantages(copied))
    return inputs, hooks.compute_advantages(inputs)
