"""An advantage on trial: its values by rollout, or by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.markers import AdvantageFacts
from plugrad.errors import OptionError, PlugradError
from plugrad.host.advantage import BoundAdvantage, compute_advantages
from plugrad.host.calling import call_with_inputs
from plugrad.host.trial import random_state_of
from plugrad.registry.bind import Component
from plugrad.testing.advantages.trial_groups import GROUP_SIZE, draw_groups
from plugrad.testing.numbers import Numbers

Groups = list[list[list[float]]]
"""By example and rollout: one advantage, or one per token."""


@dataclass(frozen=True)
class AdvantageTrial:
    """An advantage on trial."""

    component: Component

    @cached_property
    def facts(self) -> AdvantageFacts:
        """What its marker declares."""
        assert isinstance(self.component.facts, AdvantageFacts)
        return self.component.facts

    @cached_property
    def num_rollouts(self) -> int:
        """Rollouts per example in the trial: eight, unless the advantage or its options need more."""
        fewest = max(GROUP_SIZE, self.facts.min_rollouts_per_example)
        for size in (fewest, 2 * fewest, 4 * fewest, 8 * fewest):
            try:
                self.outputs(draw_groups(num_rollouts=size))
            except OptionError:
                continue
            except PlugradError:
                # The checks report it.
                return size
            return size
        return fewest

    def draw(self, seed: int = 0, reward: float | None = None, lengths: Sequence[int] | None = None) -> AdvantageInputs:
        """Draw groups of that size, with this reward and these lengths if given."""
        return draw_groups(seed, num_rollouts=self.num_rollouts, reward=reward, lengths=lengths)

    def fresh(self) -> BoundAdvantage:
        """Return a new instance, as a run binds it."""
        return BoundAdvantage(self.component, self.component.create())

    def outputs(self, inputs: AdvantageInputs, advantage: BoundAdvantage | None = None, seed: int = 0) -> AdvantageOutputs:
        """Call it as the host does. Its random numbers come from this seed."""
        with random_state_of(seed):
            return compute_advantages(advantage or self.fresh(), inputs)

    def groups(self, inputs: AdvantageInputs, advantage: BoundAdvantage | None = None, seed: int = 0) -> Groups:
        """Return its values by example and rollout."""
        return as_groups(self.outputs(inputs, advantage, seed))

    def numbers(self, inputs: AdvantageInputs, advantage: BoundAdvantage | None = None, seed: int = 0) -> Numbers:
        """Return its values by name."""
        return named(self.groups(inputs, advantage, seed))

    def unchecked(self, inputs: AdvantageInputs) -> Groups:
        """Return its values without the host's checks.

        Raises:
            PlugradError: it raised.
        """
        with random_state_of(0):
            advantage = self.fresh()
            return as_groups(call_with_inputs(str(self.component), advantage.call, advantage.view(inputs)))


def as_groups(outputs: AdvantageOutputs) -> Groups:
    """Return both forms of the outputs as nested lists."""
    rows = outputs.advantages
    if isinstance(rows, Tensor):
        return [[[value] for value in row] for row in rows.tolist()]
    return [[tokens.tolist() for tokens in group] for group in rows]


def named(groups: Groups) -> Numbers:
    """Return the values by name."""
    return {
        f"the advantage of example {i}, rollout {j}" + (f", token {t}" if len(tokens) > 1 else ""): value
        for i, group in enumerate(groups)
        for j, tokens in enumerate(group)
        for t, value in enumerate(tokens)
    }
