"""The environment `hf`: any dataset of the `datasets` package, with rewards by name."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from plugrad import CallableReference, DataError, OptionError, Rollout
from plugrad_environments.dataset_rows import DatasetSource, Rows
from plugrad_environments.rewards.named import no_reward, rewards_named, scores_of
from plugrad_environments.rewards.schema_file import with_schema
from plugrad_environments.row_prompts import PromptForm, ReferenceForm, check_columns, check_pattern

Example = Mapping[str, Any]


class HuggingFace:
    r"""A dataset from the hub or from files, its columns as prompt and reference, and reward = sum of weight * reward.

    Args:
        dataset: a file (json, jsonl, csv, parquet, arrow, txt), a list of files, a folder, or the hub id.
        prompt: a column (text or chat messages), or a template of columns such as `"Q: {question}\nA:"`.
        reference: the column with the known answer. Default: the column `reference`, where there is one.
        reference_pattern: a regular expression for the answer in that column, such as `"#### (.+)"`: its first group, or the
            whole match.
        reward: `exact_match`, `math_verify`, `json_schema`, `regex`, `code_tests` (no sandbox), `file.py:function`
            or `module:function`, or a list of these. None is for replayed references alone.
        weights: the weights of several rewards, in order; 1 each by default.
        reward_kwargs: the options of named rewards, a table for each: `{ regex = { pattern = "^[0-9]+$" } }`.
        schema_file: a file with the schema of the reward `json_schema`, instead of its option `schema`.
        system: a system message. With it, prompts are chat messages.
        split: the split to train on, also a part of one: `"train[:1000]"`. A file is the split `train`.
        held_out: what is held out: a share (0.05), a number of rows, or the name of another split.
        held_out_dataset: a file, folder or hub id of held-out examples. `held_out` then names its split, by default `split`.
        limit: at most so many rows of `split` are read.
        shuffle: whether rows are shuffled before `limit` counts. Steps draw examples in random order anyway.
        streaming: read rows as they come instead of downloading all. Needs `limit`.
        config_name: the configuration of a dataset that has several.
        seed: decides which rows are held out, and how they are shuffled.
    """

    def __init__(
        self,
        dataset: Path | list[Path],
        prompt: str = "prompt",
        reference: str | None = None,
        reference_pattern: str | None = None,
        reward: CallableReference | list[CallableReference] | None = None,
        weights: list[float] | None = None,
        reward_kwargs: dict[str, dict[str, Any]] | None = None,
        schema_file: Path | None = None,
        system: str | None = None,
        split: str = "train",
        held_out: float | int | str = 0,
        held_out_dataset: Path | None = None,
        limit: Annotated[int, Field(ge=1)] | None = None,
        shuffle: bool = False,
        streaming: bool = False,
        config_name: str | None = None,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self._prompt = PromptForm(prompt, system)
        self._prompt.columns()
        self._reference, self._pattern = reference, reference_pattern
        if reference_pattern is not None:
            check_pattern("reference_pattern", reference_pattern)
        named = [] if reward is None else [reward] if isinstance(reward, str) else reward
        self._rewards = rewards_named(named, weights, with_schema(named, reward_kwargs or {}, schema_file))
        if streaming and limit is None:
            raise OptionError(
                "streaming = true reads a dataset without an end in sight. Set limit, the number of rows to read."
            )
        _check_held_out(held_out, held_out_dataset)
        source = DatasetSource(dataset, config_name, streaming, shuffle, seed)
        examples = self._examples(source.read(split, limit), source.name)
        if held_out_dataset is not None or isinstance(held_out, str):
            # Whole and in order: the numbers of different runs are to be of the same examples.
            other = DatasetSource(held_out_dataset or dataset, config_name, streaming, False, seed)
            of_other = other.read(held_out if isinstance(held_out, str) else split, limit if streaming else None)
            self._train, self._eval = examples, self._examples(of_other, other.name)
        else:
            self._train, self._eval = _split(examples, held_out, seed)
        for one in self._rewards:
            one.reward.check([*self._train, *self._eval])

    def train_examples(self) -> Sequence[Example]:
        """Return the rows to train on."""
        return self._train

    def eval_examples(self) -> Sequence[Example]:
        """Return the held-out rows."""
        return self._eval

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[float | Mapping[str, float]]:
        """Return the weighted sum of the rewards, and with several each one's number."""
        return scores_of(self._rewards, rollouts) if self._rewards else no_reward(rollouts)

    def _examples(self, rows: Rows, name: str) -> list[Example]:
        if pictures := [column for column in self._prompt.columns() if column in rows.not_text]:
            raise DataError(f"the column {pictures[0]!r} of {name} holds pictures or sound. Prompts are text here.")
        check_columns("prompt", self._prompt.columns(), rows.columns, name)
        form = None
        if self._reference is not None:
            check_columns("reference", [self._reference], rows.columns, name)
            form = ReferenceForm(self._reference, self._pattern)
        elif "reference" in rows.columns:
            form = ReferenceForm("reference", self._pattern)
        elif self._pattern is not None:
            raise OptionError("reference_pattern is set, and reference is not. Name the column that it is for.")
        examples: list[Example] = []
        for number, row in rows.rows:
            where = f"{rows.name}:{number}"
            known = {} if form is None else {"reference": form.reference(row, where)}
            examples.append({"example_id": where, **row, "prompt": self._prompt.prompt(row, where), **known})
        return examples


def _check_held_out(held_out: float | int | str, dataset: Path | None) -> None:
    if isinstance(held_out, str):
        if not held_out:
            raise OptionError(
                'held_out = "" names no split. Write a share (0.05), a number of rows, or the name of a split.'
            )
        return
    if dataset is not None and held_out:
        raise OptionError(
            f"held_out = {held_out} takes rows from the training split, and held_out_dataset names others. Drop one."
        )
    if isinstance(held_out, float) and not 0 <= held_out < 1:
        raise OptionError(f"held_out = {held_out} is no share: write one from 0 to below 1, or a whole number of rows.")
    if held_out < 0:
        raise OptionError(f"held_out = {held_out} is no number of rows.")


def _split(examples: Sequence[Example], held_out: float | int, seed: int) -> tuple[list[Example], list[Example]]:
    number = round(held_out * len(examples)) if isinstance(held_out, float) else held_out
    if isinstance(held_out, float) and held_out > 0:
        number = max(number, 1)
    if number >= len(examples):
        raise DataError(
            f"held_out = {held_out} would hold out {number} of {len(examples)} rows: none would be left to train on."
        )
    chosen = set(random.Random(seed).sample(range(len(examples)), number))
    train = [example for index, example in enumerate(examples) if index not in chosen]
    return train, [examples[index] for index in sorted(chosen)]
