"""The environment `trl`: TRL's reward functions over a dataset of the `datasets` package."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plugrad import CallableReference, PluginError, Rollout
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.signatures import STYLES, TRL_REWARD, Signature
from plugrad_compat.trl.dataset import Source, held_out
from plugrad_compat.trl.rewards import Log, RewardFunction, missing_columns, reward_functions, rewards_of

REWARD = "reward"


class TrlRewards:
    """reward = sum over functions of weight * `reward(prompts, completions, **columns)`, as GRPOTrainer's `reward_funcs`.

    Args:
        dataset: a hub id, a file (json, jsonl, csv, parquet, arrow, txt), or a folder written by `save_to_disk`.
        rewards: one or several functions, as `file.py:function` or `module:function`.
        weights: the weights of the functions, in order; 1 each by default. TRL's `reward_weights`.
        split: the split to train on. A file is one split.
        eval_split: the split to hold out.
        num_eval: without `eval_split`, how many examples to hold out, drawn with `seed`.
        prompt_column: the column with the prompt: a string, or chat messages for the tokenizer's chat template.
        config_name: the configuration of a dataset that has several.
        seed: the seed that decides which examples are held out.
    """

    def __init__(
        self,
        dataset: Path,
        rewards: CallableReference | list[CallableReference],
        weights: list[float] | None = None,
        split: str = "train",
        eval_split: str | None = None,
        num_eval: int = 0,
        prompt_column: str = "prompt",
        config_name: str | None = None,
        seed: int = 0,
    ) -> None:
        self._functions = reward_functions([rewards] if isinstance(rewards, str) else rewards, weights)
        source = Source(dataset, config_name, prompt_column)
        examples = source.read(split)
        self._train, self._held_out = (
            (examples, source.read(eval_split)) if eval_split else held_out(examples, num_eval, seed)
        )
        for function in self._functions:
            _check_signature(function, self._train[0] if self._train else {})

    def train_examples(self) -> Sequence[Mapping[str, Any]]:
        """Return the rows to train on."""
        return self._train

    def eval_examples(self) -> Sequence[Mapping[str, Any]]:
        """Return the held-out rows."""
        return self._held_out

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Mapping[str, float]]:
        """Return the weighted sum, and each function's own number where it returned one."""
        log = Log()
        by_function = rewards_of(self._functions, rollouts, log)
        log.write_into(rollouts)
        components = [
            {name: values[index] for name, values in by_function.items() if values[index] is not None}
            for index in range(len(rollouts))
        ]
        totals = [self._total(row) for row in components]
        filled = with_unscorable(totals, rollouts)
        return [{**row, REWARD: total} for row, total in zip(components, filled, strict=True)]  # type: ignore[dict-item]

    def _total(self, row: Mapping[str, float | None]) -> float | None:
        weighted = [f.weight * value for f in self._functions if (value := row.get(f.name)) is not None]
        return sum(weighted) if weighted else None


def with_unscorable(totals: Sequence[float | None], rollouts: Sequence[Rollout]) -> list[float]:
    """Fill in the mean of the example's other rewards, or 0, where every function returned None.

    The rollout then has no advantage over the mean of its group, and does not change the others', as in TRL.
    """
    of_example: dict[Any, list[float]] = defaultdict(list)
    for total, rollout in zip(totals, rollouts, strict=True):
        if total is not None:
            of_example[rollout["example"].get("example_id")].append(total)
    filled = []
    for total, rollout in zip(totals, rollouts, strict=True):
        others = of_example[rollout["example"].get("example_id")]
        if total is None:
            notice(
                "every reward function returned None for a completion. It gets the mean reward of its example's others, so "
                "it has no advantage over them."
            )
        filled.append(total if total is not None else sum(others) / len(others) if others else 0.0)
    return filled


def _check_signature(function: RewardFunction, columns: Mapping[str, Any]) -> None:
    signature = Signature.of(function.call)
    missing = missing_columns(function, columns)
    if not missing and ("completions" in signature.names or signature.takes_any):
        return
    if "completions" not in signature.names and not signature.takes_any:
        likest = max(STYLES, key=lambda style: style.likeness(signature.names))
        looks = f" It looks like {likest.name}: {likest.selected_by}." if likest.likeness(signature.names) >= 0.5 else ""
        raise PluginError(f"{function.target!r} is not {TRL_REWARD.name}: it does not take 'completions'.{looks}")
    raise PluginError(
        f"the reward function {function.target!r} asks for {', '.join(map(repr, missing))}, which is neither a column of "
        f"the dataset ({', '.join(name for name in columns if name != 'example_id')}) nor an argument that TRL passes "
        f"({', '.join(TRL_REWARD.parameters)})."
    )
