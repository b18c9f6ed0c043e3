"""The environment `verifiers`: tasks, harnesses, tools and rewards of the package `verifiers`, as they are."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field

from plugrad import DataError, OptionError
from plugrad.contracts.turns import PlayEnded, Player
from plugrad_environments.episodes import Episodes
from plugrad_environments.verifiers_config import environment_of, merged, taskset_id, verifiers
from plugrad_environments.wording import cut

ENDED = "rollout_ended"
REWARD = "reward"


class Verifiers:
    """An environment of `verifiers` 0.4. The reward is the weighted sum of the task's own rewards.

    Args:
        id: the taskset: an installed package such as `"reverse-text"`, a Python file, or a folder with a package.
        args: options as `verifiers` has them under `env`: `{ taskset = { split = "train" }, agent = { max_turns = 4 } }`.
        eval_args: the options that differ for held-out tasks: `{ taskset = { split = "test" } }`.
        size: at most so many tasks to train on, the first ones.
        num_eval: with `eval_args`, at most so many held-out tasks; otherwise so many of the tasks, drawn with `seed`.
        seed: decides which tasks are held out.
    """

    def __init__(
        self,
        id: Path,
        args: dict[str, Any] | None = None,
        eval_args: dict[str, Any] | None = None,
        size: Annotated[int, Field(ge=1)] | None = None,
        num_eval: Annotated[int, Field(ge=0)] | None = None,
        seed: int = 0,
    ) -> None:
        verifiers()
        self._id = taskset_id(id)
        self._tasks: dict[str, tuple[Episodes, Any]] = {}
        environment = environment_of(self._id, args or {})
        held_out = None if eval_args is None else environment_of(self._id, merged(args or {}, eval_args))
        of_its_own = (num_eval or 0) if held_out is None else 0
        tasks = self._first(environment, None if size is None else size + of_its_own, "size")
        if of_its_own >= len(tasks):
            raise DataError(f"num_eval = {of_its_own} holds out all {len(tasks)} tasks of {self._id}: set a smaller one.")
        chosen = set(random.Random(seed).sample(range(len(tasks)), of_its_own))
        episodes = Episodes(environment)
        self._train = [self._example(t, episodes) for place, t in enumerate(tasks) if place not in chosen]
        self._eval = [self._example(t, episodes) for place, t in enumerate(tasks) if place in chosen]
        if held_out is not None:
            others = self._first(held_out, num_eval, "num_eval")
            episodes = Episodes(held_out)
            self._eval = [self._example(task, episodes, "held out:") for task in others]

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the tasks to train on."""
        return self._train

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return the held-out tasks."""
        return self._eval

    async def play(self, example: Mapping[str, Any], policy: Player) -> dict[str, float]:
        """Run an episode; return its reward, and its rewards and metrics by name."""
        episodes, task = self._tasks[example["example_id"]]
        address = policy.base_url
        return _outcome(await episodes.play(task, address), address)

    def _first(self, environment: Any, most: int | None, option: str) -> list[Any]:
        taskset = environment.taskset
        if most is None and not taskset.bounded:
            raise OptionError(f"the taskset {self._id} has no end. Set {option}, the number of tasks to take of it.")
        tasks = list(islice(taskset, most))
        if not tasks:
            raise DataError(f"the taskset {self._id} has no tasks.")
        return tasks

    def _example(self, task: Any, episodes: Episodes, part: str = "") -> dict[str, Any]:
        example_id = f"{self._id}:{part}{task.data.idx}"
        self._tasks[example_id] = episodes, task
        answer = getattr(task.data, "answer", None)
        known = {"reference": answer} if isinstance(answer, str) else {}
        return {"example_id": example_id, "prompt": _prompt(task.data, example_id), **known}


def _prompt(data: Any, example_id: str) -> list[dict[str, str]]:
    """Return the messages that a task begins with; of one whose conversation another begins, what is known of it."""
    system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
    if isinstance(data.prompt, str):
        return [*system, {"role": "user", "content": data.prompt}]
    messages = [{"role": message.role, "content": _text(message.content, example_id)} for message in data.prompt or ()]
    if messages:
        return [*system, *messages]
    return [*system, {"role": "user", "content": data.description or data.name or example_id}]


def _text(content: Any, example_id: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if any(part.type != "text" for part in content):
        raise DataError(f"the prompt of {example_id} has an image. Prompts are text here.")
    return "".join(part.text for part in content)


class EpisodeError(Exception):
    """An episode that has no reward. It costs its rollout."""


def _outcome(episode: Any, address: str) -> dict[str, float]:
    """Return the reward of an episode and its parts: means over the agents that the policy was.

    Raises:
        PlayEnded: the rollout reached a limit of the run, and its program could do nothing with that.
        EpisodeError: it failed.
    """
    traces = [trace for trace in episode.traces if _asked(trace) == address]
    errors = [error for part in (episode, *episode.traces) for error in part.errors]
    if not episode.ok:
        if any(ENDED in error.message for error in errors):
            raise PlayEnded
        raise EpisodeError(f"{errors[-1].type}: {cut(errors[-1].message)}" if errors else "an agent did not end well.")
    others = [trace.agent.name for trace in traces if not trace.agent.trainable]
    if others or not traces:
        whose = f"the agent {others[0]!r}, which is not to be trained, asked" if others else "no agent asked"
        raise EpisodeError(
            f"{whose} the policy. Give such agents a client and a model of their own: "
            f"args = {{ {others[0] if others else 'NAME'} = {{ model = ..., client = {{ base_url = ... }} }} }}."
        )
    found: dict[str, list[float]] = {REWARD: [trace.reward for trace in traces]}
    for trace in traces:
        parts = {name: reward and reward.value for name, reward in trace.rewards.items()}
        for name, value in {**trace.metrics, **parts}.items():
            if value is not None and name != REWARD:
                found.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in found.items()}


def _asked(trace: Any) -> str | None:
    client = trace.agent.config.client
    return None if client is None else str(client.base_url)
