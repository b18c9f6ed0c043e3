"""Call the environment, and check its examples and rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from plugrad.contracts.environment import Environment, Example, finite_number, not_unicode
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError, DataError
from plugrad.host.calling import call_plugin
from plugrad.host.time_limit import waiting_notice
from plugrad.registry.bind import Component


@dataclass(frozen=True)
class BoundEnvironment:
    """The selected environment and its component."""

    component: Component
    environment: Environment

    @classmethod
    def create(cls, component: Component) -> BoundEnvironment:
        """Create the environment.

        Raises:
            ContractError: it lacks one of the three methods of an environment.
        """
        with waiting_notice(f"{component}"):
            environment = component.create()
        missing = [m for m in ("train_examples", "eval_examples", "score") if not callable(getattr(environment, m, None))]
        if missing:
            raise ContractError(f"{component} has no method {missing[0]}(): see plugrad.Environment.")
        return cls(component, environment)

    def train_examples(self) -> list[Example]:
        """Return the checked training examples, each with an `example_id`. They are read once."""
        if not self._train:
            raise DataError(f"{self.component} has no training examples.")
        return self._train

    def eval_examples(self) -> list[Example]:
        """Return the checked held-out examples, each with an `example_id`, possibly none. They are read once."""
        return self._held_out

    @cached_property
    def _train(self) -> list[Example]:
        return _checked(self, "train_examples", self.environment.train_examples)

    @cached_property
    def _held_out(self) -> list[Example]:
        return _checked(self, "eval_examples", self.environment.eval_examples)

    def score(self, rollouts: Sequence[Rollout]) -> None:
        """Score the rollouts, and write rewards and components into them.

        Raises:
            ContractError: the environment did not return one score per rollout.
            DataError: a reward is not a finite number. Names the example.
        """
        scores = call_plugin(str(self.component), self.environment.score, rollouts)
        found = f"{len(scores)} scores" if isinstance(scores, Sequence) else type(scores).__name__
        if not isinstance(scores, Sequence) or len(scores) != len(rollouts):
            raise ContractError(f"{self.component}.score returned {found} for {len(rollouts)} rollouts; return one each.")
        for rollout, score in zip(rollouts, scores, strict=True):
            components = score if isinstance(score, Mapping) else {}
            rewards = {name: self._number(value, rollout) for name, value in components.items()}
            rollout["reward"] = self._reward(score, rewards, rollout)
            rollout["reward_components"] = rewards

    def _reward(self, score: Any, components: dict[str, float], rollout: Rollout) -> float:
        if not isinstance(score, Mapping):
            return self._number(score, rollout)
        return components["reward"] if "reward" in components else sum(components.values())

    def _number(self, value: Any, rollout: Rollout) -> float:
        number = finite_number(value)
        if number is None:
            raise DataError(
                f"{self.component} returned the reward {value!r}, which is not a finite number, for the completion "
                f"{rollout['completion']!r} of example {rollout['example'].get('example_id')!r}."
            )
        return number


def _checked(bound: BoundEnvironment, method: str, call: Any) -> list[Example]:
    with waiting_notice(f"{bound.component}: {method}()"):
        found = call_plugin(f"{bound.component}.{method}", call)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ContractError(f"{bound.component}.{method}() returned {type(found).__name__}; return a list of examples.")
    return [_with_id(bound, example, index) for index, example in enumerate(found)]


def _with_id(bound: BoundEnvironment, example: Any, index: int) -> Example:
    if not isinstance(example, Mapping) or "prompt" not in example:
        columns = (
            f"a mapping with the columns {', '.join(example)}" if isinstance(example, Mapping) else type(example).__name__
        )
        raise DataError(
            f"{bound.component}: example {index} is {columns}; an example is a mapping with a column 'prompt' (a string, or "
            "chat messages)."
        )
    with_id = example if "example_id" in example else {"example_id": index, **example}
    for column in ("prompt", "reference"):
        if text := not_unicode(example.get(column)):
            raise DataError(
                f"{bound.component}: the {column} of example {with_id['example_id']!r} has half of a surrogate pair, which "
                f"is no character and cannot be tokenized: {text[:80]!a}. Correct it, or encode it with errors='replace'."
            )
    return with_id
