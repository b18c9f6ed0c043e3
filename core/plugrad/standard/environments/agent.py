"""Examples from a JSON-lines file, worked on by an agent that reaches the policy over an OpenAI-compatible address."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from plugrad.contracts.environment import Example
from plugrad.contracts.markers import CallableReference
from plugrad.contracts.rollout import Rollout
from plugrad.contracts.turns import Player
from plugrad.errors import DataError
from plugrad.registry.resolve import resolve_callable
from plugrad.standard.environments.jsonl import Jsonl


class Agent:
    """One JSON object per line, and an agent `(example: Mapping, base_url: str) -> float | Mapping[str, float]`.

    The agent is any code that takes a `base_url`: it may use the `openai` package, a framework over it, or start a process.
    It may be asynchronous; other agents run in threads, all of a batch at once. It returns the reward.

    Args:
        run: the agent. It receives the columns of the line, and an address for this rollout alone.
        path: the file to train on.
        prompt_column: a column with text that the agent gives to the policy.
        eval_path: a file of held-out examples.
        num_eval: without `eval_path`, the number of lines of `path` to hold out, drawn with `seed`.
        seed: decides which lines are held out.
    """

    def __init__(
        self,
        run: CallableReference,
        path: Path,
        prompt_column: str = "prompt",
        eval_path: Path | None = None,
        num_eval: Annotated[int, Field(ge=0)] = 0,
        seed: int = 0,
    ) -> None:
        self._run = resolve_callable(run)
        self._examples = Jsonl(path, prompt_column=prompt_column, eval_path=eval_path, num_eval=num_eval, seed=seed)

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the examples to train on."""
        return self._examples.train_examples()

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return the held-out examples."""
        return self._examples.eval_examples()

    def score(self, rollouts: Sequence[Rollout]) -> list[Any]:
        """Refuse: an agent plays, and completions that it did not ask for have no score."""
        raise DataError("the environment 'agent' scores what its agent does, and no completions.")

    async def play(self, example: Example, policy: Player) -> Any:
        """Let the agent work on an example; return its reward."""
        if inspect.iscoroutinefunction(self._run):
            return await self._run(example, policy.base_url)
        return await asyncio.to_thread(self._run, example, policy.base_url)
