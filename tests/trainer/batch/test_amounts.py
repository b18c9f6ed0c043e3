"""A step that is far too large is refused before anything of its size is made."""

import pytest

from plugrad import RunFileError


@pytest.mark.parametrize(
    ("rollout", "tables", "message"),
    [
        (
            {"prompts_per_step": 5_000_000, "rollouts_per_example": 2},
            {},
            "has 28 examples: a step would draw each more than",
        ),
        (
            {"max_new_tokens": 1_000_000},
            {"tokens_per_micro_batch": 1},
            "16,000,000 tokens: more than 1,000,000 forward passes",
        ),
    ],
)
def test_a_step_is_compared_with_the_examples_and_the_token_budget(run, rollout, tables, message):
    defaults = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4}
    with pytest.raises(RunFileError, match=message):
        run(rollout={**defaults, **rollout}, **tables)
