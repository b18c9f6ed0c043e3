"""Examples from a JSON-lines file, scored by the user's reward function."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from plugrad.contracts.environment import Score, finite_number
from plugrad.contracts.markers import CallableReference
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError, DataError
from plugrad.json_text import read_json_lines
from plugrad.registry.blame import Blamed, told
from plugrad.registry.resolve import resolve_callable
from plugrad.shown import printable, shown


class Jsonl:
    """One JSON object per line, and a reward `(completion: str, example: Mapping) -> float | Mapping[str, float]`.

    Args:
        path: the file to train on.
        reward: the reward function. It receives the text of the completion and the columns of the line. Without one, every
            replayed completion has the reward 0, and sampled ones are refused.
        prompt_column: the column with the prompt: a string, or chat messages.
        reference_column: the column with the known answer, if any. The `dataset` engine replays it.
        references_column: the column with one text for each rollout, if any, such as the chosen and the rejected answer of a
            pair. The `dataset` engine then replays these instead.
        eval_path: a file of held-out examples.
        num_eval: without `eval_path`, the number of lines of `path` to hold out, drawn with `seed`.
        seed: decides which lines are held out.
    """

    def __init__(
        self,
        path: Path,
        reward: CallableReference | None = None,
        prompt_column: str = "prompt",
        reference_column: str = "reference",
        references_column: str = "references",
        eval_path: Path | None = None,
        num_eval: Annotated[int, Field(ge=0)] = 0,
        seed: int = 0,
    ) -> None:
        self._reward_reference = reward
        self._reward = None if reward is None else resolve_callable(reward)
        self._columns = {"prompt": prompt_column, "reference": reference_column, "references": references_column}
        examples = list(self._read(path))
        if not examples:
            raise DataError(f"{path} has no examples: it is empty.")
        if eval_path is None and num_eval >= len(examples):
            raise DataError(f"{path} has {len(examples)} examples, and num_eval = {num_eval} would hold out all of them.")
        held_out = set(random.Random(seed).sample(range(len(examples)), num_eval if eval_path is None else 0))
        self._train = [example for index, example in enumerate(examples) if index not in held_out]
        self._eval = [examples[index] for index in sorted(held_out)] if eval_path is None else list(self._read(eval_path))

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the examples to train on."""
        return self._train

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return the held-out examples."""
        return self._eval

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Call the reward function on each completion.

        Raises:
            ContractError: the reward function raised. Its exception is the `__cause__`.
            DataError: the reward function returned something other than finite numbers.
        """
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> Score:
        if self._reward is None:
            return _unrewarded(rollout)
        of_what = f"completion {shown(rollout['completion'])} of example {shown(rollout['example'].get('example_id'))}"
        owner = f"the reward function {self._reward_reference}"
        with Blamed(owner, lambda error: ContractError(f"{owner} raised {told(error)} ({of_what}).")):
            score: Score = self._reward(rollout["completion"], rollout["example"])
        for value in score.values() if isinstance(score, Mapping) else [score]:
            if finite_number(value) is None:
                raise DataError(
                    f"the reward function {self._reward_reference} returned {shown(value)}, which is not a finite number "
                    f"({of_what})."
                )
        return score

    def _read(self, path: Path) -> Iterator[dict[str, Any]]:
        for number, columns in read_json_lines(path):
            if self._columns["prompt"] not in columns:
                raise DataError(
                    f"{path}, line {number} has no column {shown(self._columns['prompt'])} (it has "
                    f"{printable(', '.join(columns))}). Set prompt_column under [environment.kwargs]."
                )
            named = {name: columns[column] for name, column in self._columns.items() if column in columns}
            yield {"example_id": f"{path.name}:{number}", **columns, **named}


def _unrewarded(rollout: Rollout) -> float:
    """Return 0 for a completion that is replayed, and so needs no reward."""
    if rollout["inference_logprobs"] is not None:
        raise DataError(
            "the environment 'jsonl' has no reward function for a sampled completion. Set reward = \"rewards.py:FUNCTION\" "
            'under [environment.kwargs]. Only replayed references (rollout.engine = "dataset", no evaluation) need none.'
        )
    return 0.0
