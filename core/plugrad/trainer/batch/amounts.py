"""Check how much a step is to hold, before anything of that size is made."""

from __future__ import annotations

from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.host.environment import BoundEnvironment

MOST_EPOCHS = 1000
"""A step that draws every example more often than this is a typing error."""
MOST_MICRO_BATCHES = 1_000_000


def check_amounts(run_file: RunFile, environment: BoundEnvironment) -> None:
    """Compare the rollouts of a step with the examples that there are, and with the token budget.

    Raises:
        RunFileError: a step is orders of magnitude larger than either.
    """
    table, examples = run_file.rollout, len(environment.train_examples())
    if table.prompts_per_step > MOST_EPOCHS * examples:
        raise RunFileError(
            f"rollout.prompts_per_step is {table.prompts_per_step:,}, and {environment.component} has {examples:,} "
            f"examples: a step would draw each more than {MOST_EPOCHS:,} times. Lower prompts_per_step; every example once "
            f"is {examples:,}."
        )
    tokens = table.prompts_per_step * table.rollouts_per_example * table.max_new_tokens
    if tokens > MOST_MICRO_BATCHES * run_file.tokens_per_micro_batch:
        raise RunFileError(
            f"a step of {table.prompts_per_step:,} prompts with {table.rollouts_per_example:,} rollouts of up to "
            f"{table.max_new_tokens:,} tokens is {tokens:,} tokens: more than {MOST_MICRO_BATCHES:,} forward passes of "
            f"tokens_per_micro_batch = {run_file.tokens_per_micro_batch:,}. Lower one of rollout.prompts_per_step, "
            "rollout.rollouts_per_example and rollout.max_new_tokens, or raise tokens_per_micro_batch."
        )
