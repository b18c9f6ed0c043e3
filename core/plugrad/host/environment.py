"""Call the environment, and check its examples and rewards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from inspect import isawaitable
from typing import Any

from plugrad.contracts.environment import Environment, Example
from plugrad.contracts.rollout import Rollout
from plugrad.contracts.turns import Player
from plugrad.errors import ContractError, DataError, PlugradError
from plugrad.host.calling import blaming, call_plugin, changed_in_place
from plugrad.host.environment_scores import list_of_scores, take_over, unlike_components, write_score
from plugrad.host.received import copies
from plugrad.host.time_limit import waiting_notice
from plugrad.json_text import half_of_a_pair
from plugrad.registry.bind import Component
from plugrad.shown import shown

logger = logging.getLogger("plugrad")

OF_OTHERS = frozenset(
    {
        "step", "reset", "close", "render", "seed", "rollout", "generate", "act", "observe", "env_response", "is_completed",
        "setup_state", "init", "reward", "rewards", "reward_fn", "reward_func", "compute_score", "compute_reward",
        "get_reward", "get_dataset", "test_examples", "val_examples", "validation_examples", "score_one", "on_run_start",
        "on_run_end", "on_step_end",
    }
)  # fmt: skip
"""Methods of environments elsewhere, and slips of the pen. plugrad calls none of them."""


OF_TURNS = "turns"
"""The reward component of the rewards that replies got."""


@contextmanager
def of_set(name: str) -> Iterator[None]:
    """Say of an error in the body that it is of the environment of a held-out set."""
    try:
        yield
    except PlugradError as error:
        error.add_note(f"It is the environment of evaluation.sets.{name}.")
        raise


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
        scores = "play" if callable(getattr(environment, "play", None)) else "score"
        missing = [m for m in ("train_examples", "eval_examples", scores) if not callable(getattr(environment, m, None))]
        if missing:
            nor = ", and no play() for several turns either" if missing[0] == "score" else ""
            raise ContractError(f"{component} has no method {missing[0]}(){nor}: see plugrad.Environment.")
        _warn_of_other_methods(component, environment)
        return cls(component, environment)

    @property
    def scores(self) -> bool:
        """Whether it scores completions that it did not ask for."""
        return callable(getattr(self.environment, "score", None))

    @property
    def plays(self) -> bool:
        """Whether it plays with the policy, and does not score single completions."""
        return callable(getattr(self.environment, "play", None))

    @property
    def in_order(self) -> bool:
        """Whether steps take the training examples in their order, and do not shuffle them: its attribute `in_order`."""
        return getattr(self.environment, "in_order", False) is True

    async def play(self, example: Example, policy: Player) -> object:
        """Let the environment play once, with a copy of the example.

        Raises:
            ContractError: `play` is not asynchronous.
            Exception: whatever it raises.
        """
        play: Any = self.environment.play  # type: ignore[attr-defined]
        found = play(deepcopy(dict(example)), policy)
        if not isawaitable(found):
            raise ContractError(
                f"{self.component}.play returned {type(found).__name__} at once: it awaits replies. Write it as "
                "'async def play(self, example, policy)', without yield."
            )
        return await found

    def write_outcome(self, outcome: object, of_turns: float, rollout: Rollout) -> None:
        """Write what a play returned, and the rewards of its turns, into a rollout.

        Raises:
            ContractError: the outcome is no finite number, nor a mapping of such.
        """
        owner = str(self.component)
        with blaming(owner):
            write_score(owner, 0.0 if outcome is None else outcome, rollout)
        if of_turns:
            if rollout["reward_components"]:
                rollout["reward_components"][OF_TURNS] = of_turns
            rollout["reward"] += of_turns

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

    @cached_property
    def _warnings(self) -> set[str]:
        """What was warned of, once."""
        return set()

    def _warn_of_unlike_components(self, rollouts: Sequence[Rollout]) -> None:
        found = None if "components" in self._warnings else unlike_components(rollouts)
        if found:
            self._warnings.add("components")
            logger.warning("%s: %s", self.component, found)

    def score(self, rollouts: Sequence[Rollout]) -> None:
        """Score the rollouts, and write rewards, components and the environment's metrics into them.

        The environment receives copies: what core needs stays core's.

        Raises:
            ContractError: the environment did not return one score per rollout, changed what it may not write, or set a
                metric that is not a number.
            DataError: a reward is not a finite number. Names the example.
        """
        owner = str(self.component)
        given = copies(rollouts)
        listed: list[Any] = list(given)
        # Within the call: a generator computes its scores only there.
        scores = call_plugin(owner, lambda: list_of_scores(owner, self.environment.score(listed), len(rollouts)))
        if [id(rollout) for rollout in listed] != [id(rollout) for rollout in given]:
            raise changed_in_place(owner, "rollouts")
        with blaming(owner):
            for rollout, score in zip(rollouts, scores, strict=True):
                write_score(owner, score, rollout)
            for rollout, written in zip(rollouts, given, strict=True):
                take_over(owner, written, rollout)
        self._warn_of_unlike_components(rollouts)


def _warn_of_other_methods(component: Component, environment: object) -> None:
    """Name the public methods that look like another library's and that the environment does not call itself."""
    source = type(environment)
    unused = sorted(name for name in OF_OTHERS if callable(getattr(source, name, None)))
    if unused:
        logger.warning(
            f"{component} has the method{'s' if len(unused) > 1 else ''} {', '.join(f'{name}()' for name in unused)}, which "
            "plugrad never calls: an environment gives examples, and scores completions or plays. What it does there has no "
            "effect, unless train_examples, eval_examples, score or play call it."
        )


def _checked(bound: BoundEnvironment, method: str, call: Any) -> list[Example]:
    owner = f"{bound.component}.{method}"
    with waiting_notice(f"{bound.component}: {method}()"):
        found = call_plugin(owner, call)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ContractError(f"{owner}() returned {type(found).__name__}; return a list of examples.")
    with blaming(owner):
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
    # A copy: the environment may change its own later.
    with_id = {**({} if "example_id" in example else {"example_id": index}), **example}
    for column in ("prompt", "reference"):
        if half := half_of_a_pair(example.get(column)):
            raise DataError(
                f"{bound.component}: the {column} of example {shown(with_id['example_id'])} has {half}. Correct it, or "
                "encode it with errors='replace'."
            )
    return with_id
