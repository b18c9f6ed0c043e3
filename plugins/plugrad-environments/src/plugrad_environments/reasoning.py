"""The environment `reasoning_gym`: more than a hundred generated tasks, each with its own scorer."""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from plugrad import DataError, OptionError, Rollout
from plugrad_environments.generated_tasks import NOT_STABLE, checked_config, reasoning_gym
from plugrad_environments.problems import Problem, Stage, problems_of, stages_of
from plugrad_environments.row_prompts import PromptForm
from plugrad_environments.side.side_process import NoAnswer, SideProcess
from plugrad_environments.wording import among, cut, listed

logger = logging.getLogger("plugrad")

SCORERS = SideProcess("plugrad_environments.side.task_worker", "the environment 'reasoning_gym'")


class ReasoningGym:
    """A task of reasoning-gym, or a mixture of several. The reward is the task's own score of the answer, from 0 to 1.

    Args:
        task: the name of a task, such as `leg_counting`.
        tasks: instead of `task`, several tasks and their weights: `{ leg_counting = 1.0, chain_sum = 2.0 }`.
        config: the options of the `task`, such as `{ max_animals = 3 }`.
        configs: the options of several `tasks`, a table for each.
        size: the number of problems to train on.
        num_eval: the number of held-out problems. They have a seed of their own, and none of them is trained on.
        seed: the seed of the problems.
        prompt: the prompt of a problem; `{question}` is the task's question.
        system: a system message, which makes prompts chat messages, or the name of one of reasoning-gym's, such as
            `"DeepSeekZero"`, `"simple"` or `"direct"`.
        answer_tag: the answer is what the last `<tag>...</tag>` of the completion holds: `"answer"`, as reasoning-gym's own
            system messages ask for. Default: the whole completion is the answer.
        levels: the levels of the task's curriculum, in the order in which the run has them: `[0, 1, 2]`. The first problems
            of `size` are of the first level, and so on. Steps take the problems in order.
        timeout_s: the limit of seconds for scoring one answer. One that takes longer is worth 0.
    """

    def __init__(
        self,
        task: str | None = None,
        tasks: dict[str, float] | None = None,
        config: dict[str, Any] | None = None,
        configs: dict[str, dict[str, Any]] | None = None,
        size: Annotated[int, Field(ge=1)] = 1000,
        num_eval: Annotated[int, Field(ge=0)] = 100,
        seed: Annotated[int, Field(ge=0)] = 0,
        prompt: str = "{question}",
        system: str | None = None,
        answer_tag: Annotated[str, Field(min_length=1)] | None = None,
        levels: Annotated[list[int], Field(min_length=1)] | None = None,
        timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0,
    ) -> None:
        weights = _weights(task, tasks)
        options = _options(task, weights, config, configs)
        checked = {name: checked_config(name, options.get(name, {})) for name in weights}
        if (unstable := sorted(NOT_STABLE & set(weights))) and os.environ.get("PYTHONHASHSEED", "random") == "random":
            logger.warning(
                "reasoning-gym's %s has other problems in every process: such a run can neither go on nor use several "
                "ranks. Start it with PYTHONHASHSEED=0.",
                listed(unstable),
            )
        from reasoning_gym.utils import SYSTEM_PROMPTS

        self._tag = answer_tag
        self._form = _form(prompt, SYSTEM_PROMPTS.get(system, system) if system else system)
        self._timeout_s, self.in_order = timeout_s, levels is not None
        self._problems: dict[str, Problem] = {}
        stages = [Stage(weights, checked)] if levels is None else stages_of(weights, checked, levels)
        self._levels = sorted({stage.level for stage in stages if stage.level is not None})
        name = next(iter(weights)) if len(weights) == 1 else "mixture"
        # reasoning-gym's problem i of seed s is problem 0 of seed s + i, so a seed near by would give the same problems.
        held_out_seed = random.Random(f"held out from {seed}").getrandbits(31)
        self._eval = self._examples(problems_of(stages, held_out_seed, num_eval), f"{name}:held out:{seed}")
        known = {self._problems[example["example_id"]].entry["question"] for example in self._eval}
        train = self._examples(problems_of(stages, seed, size), f"{name}:{seed}")
        self._train = [e for e in train if self._problems[e["example_id"]].entry["question"] not in known]
        _tell_of_left_out(name, len(train), len(self._train), num_eval)

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the problems to train on."""
        return self._train

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return the held-out problems."""
        return self._eval

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return the task's own score of each answer. One that the scorer cannot read is worth 0 and reported."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        from reasoning_gym.utils import extract_answer

        completion, problem = rollout["completion"], self._problems[rollout["example"]["example_id"]]
        answer = completion.strip() if self._tag is None else extract_answer(completion, tag_name=self._tag)
        rollout["metrics"]["scorer_timeouts"] = 0.0
        found: float | None = 0.0
        if answer is not None:
            try:
                found = SCORERS.ask((problem.task, problem.config, answer, problem.entry), self._timeout_s)
            except NoAnswer:
                rollout["metrics"]["scorer_timeouts"] = 1.0
        rollout["metrics"]["unreadable_answers"] = float(found is None)
        score = found or 0.0
        metrics: dict[str, Any] = rollout["metrics"]
        for level in self._levels:
            metrics[f"level_{level}"] = score if level == problem.level else None
        return score

    def _examples(self, problems: Iterable[Problem], name: str) -> list[dict[str, Any]]:
        examples = []
        for index, problem in enumerate(problems):
            where, entry = f"{name}:{index}", problem.entry
            self._problems[where] = problem
            prompt = self._form.prompt(entry, where)
            known = {} if entry["answer"] is None else {"reference": str(entry["answer"])}
            level = {} if problem.level is None else {"level": problem.level}
            examples.append({"example_id": where, "prompt": prompt, "task": problem.task, **level, **known})
        return examples


def _weights(task: str | None, tasks: Mapping[str, float] | None) -> dict[str, float]:
    reasoning_gym()
    if (task is None) == (not tasks):
        raise OptionError('set one of task = "leg_counting" and tasks = { leg_counting = 1.0, chain_sum = 2.0 }.')
    weights = {task: 1.0} if task is not None else dict(tasks or {})
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise OptionError(f"the weight of the task {cut(name)} is {weight}. A weight is a number above 0.")
    return weights


def _options(
    task: str | None,
    weights: Mapping[str, float],
    config: Mapping[str, Any] | None,
    configs: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, Mapping[str, Any]]:
    if task is not None:
        if configs:
            raise OptionError(f"configs is for several tasks. Write the options of {task!r} as config = {{ ... }}.")
        return {task: config or {}}
    if config:
        raise OptionError("config is for one task. Write configs = { TASK = { ... } } for those of several tasks.")
    for name in configs or {}:
        if name not in weights:
            raise OptionError(f"configs has options for {cut(name)}, and tasks has {listed(weights)}.{among(name, weights)}")
    return dict(configs or {})


def _form(prompt: str, system: str | None) -> PromptForm:
    form = PromptForm(prompt, system)
    if form.columns() != ["question"] or not form.is_template:
        raise OptionError(f"prompt = {cut(prompt)} has to contain {{question}}, and nothing else in braces.")
    return form


def _tell_of_left_out(name: str, made: int, left: int, num_eval: int) -> None:
    if left == 0:
        raise DataError(
            f"every problem of {name} is among the {num_eval} held-out ones: the task has few different problems with these "
            "options. Set a smaller num_eval, or options with more problems."
        )
    if left < made:
        logger.info("%d of %d problems of %s are also held out, and left out of the training.", made - left, made, name)
