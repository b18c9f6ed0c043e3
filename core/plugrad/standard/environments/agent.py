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
from plugrad.errors import DataError, OptionError
from plugrad.registry.resolve import resolve_callable
from plugrad.standard.environments.agent_command import AgentCommand
from plugrad.standard.environments.jsonl import Jsonl


class Agent:
    """One JSON object per line, and an agent `(example: Mapping, base_url: str) -> float | Mapping[str, float]`.

    The agent is any code that takes a `base_url`: it may use the `openai` package or a framework over it. It may be
    asynchronous; other agents run in threads, all of a batch at once. It returns the reward.

    Or it is a program, of which each rollout starts a process. That reads the example from stdin, as a line of JSON, and
    finds the address in OPENAI_BASE_URL. The last line that it writes to stdout is the reward: a number, or an object of
    numbers. One that fails or writes something else costs its rollout. It and what it started are killed at
    `rollout.play_seconds`.

    Args:
        path: the file to train on.
        run: the agent, as a function. It receives the columns of the line, and an address for this rollout alone.
        command: the agent, as a program with its arguments, such as ["python", "my_agent.py"]. It runs in `folder`.
        folder: where the command runs; by default the folder of `path`.
        prompt_column: a column with text that the agent gives to the policy.
        eval_path: a file of held-out examples.
        num_eval: without `eval_path`, the number of lines of `path` to hold out, drawn with `seed`.
        seed: decides which lines are held out.
    """

    def __init__(
        self,
        path: Path,
        run: CallableReference | None = None,
        command: list[str] | None = None,
        folder: Path | None = None,
        prompt_column: str = "prompt",
        eval_path: Path | None = None,
        num_eval: Annotated[int, Field(ge=0)] = 0,
        seed: int = 0,
    ) -> None:
        if (run is None) == (command is None):
            raise OptionError(
                f"the environment 'agent' has {'neither run nor' if run is None else 'both run and'} command. Give it one: "
                'run = "my_agent.py:main", or command = ["python", "my_agent.py"].'
            )
        self._run = None if run is None else resolve_callable(run)
        self._examples = Jsonl(path, prompt_column=prompt_column, eval_path=eval_path, num_eval=num_eval, seed=seed)
        self._command = None if command is None else AgentCommand.of(command, folder or path.parent)

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
        if self._command is not None:
            return await self._command.reward(example, policy.base_url)
        assert self._run is not None
        if inspect.iscoroutinefunction(self._run):
            return await self._run(example, policy.base_url)
        return await asyncio.to_thread(self._run, example, policy.base_url)
