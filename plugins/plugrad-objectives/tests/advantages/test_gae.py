"""gae by hand: what a critic was surprised by, carried back from the end of a completion."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import AdvantageInputs, Rollout
from plugrad.testing.inputs import rollouts


def of(values: list[list[list[float]]], rewards: list[list[float]], truncated: bool = False, **options: Any) -> Any:
    """Return the advantages and returns of completions with these values, the last of which is that after the end."""
    lengths = [[len(row) - 1 for row in group] for group in values]
    groups = rollouts(rewards, lengths=lengths)
    cut = [[Rollout(**{**rollout, "truncated": truncated}) for rollout in group] for group in groups]
    tensors = [[torch.tensor(row, dtype=torch.float64) for row in group] for group in values]
    inputs = AdvantageInputs(rollouts=cut, values=tensors)
    return plugrad.load("advantage", "plugrad-objectives/gae", **options)(inputs)


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_by_hand() -> None:
    # deltas: 0.5 * 2 - 1 = 0, 0.5 * 3 - 2 = -0.5, 4 - 3 = 1; carried back by gamma lam = 1/4.
    outputs = of([[[1.0, 2.0, 3.0, 99.0]]], [[4.0]], gamma=0.5, lam=0.5, whiten=False)
    close(outputs.advantages[0][0], [-0.0625, -0.25, 1.0])
    close(outputs.returns[0][0], [0.9375, 1.75, 4.0])


def test_the_reward_of_a_reply_comes_with_its_last_token() -> None:
    [[rollout]] = rollouts([[4.0]], lengths=[[3]])
    said = {"role": "assistant", "text": "", "start": 0, "stop": 2, "reward": 1.0}
    inputs = AdvantageInputs(
        rollouts=[[Rollout(**{**rollout, "truncated": False, "turns": [said]})]],  # type: ignore[typeddict-item]
        values=[[torch.tensor([1.0, 2.0, 3.0, 99.0], dtype=torch.float64)]],
    )
    assert inputs.token_rewards[0][0].tolist() == [0.0, 1.0, 3.0]
    outputs = plugrad.load("advantage", "plugrad-objectives/gae", gamma=0.5, lam=0.5, whiten=False)(inputs)
    # deltas: 0, 1 + 0.5 * 3 - 2 = 0.5, 3 - 3 = 0.
    close(outputs.advantages[0][0], [0.125, 0.5, 0.0])


def test_without_a_discount_and_with_lam_1_the_return_is_the_reward() -> None:
    outputs = of([[[0.3, -0.2, 0.9, 5.0]]], [[2.0]], lam=1.0, whiten=False)
    close(outputs.returns[0][0], [2.0, 2.0, 2.0])
    close(outputs.advantages[0][0], [1.7, 2.2, 1.1])


def test_with_lam_0_each_token_sees_one_step() -> None:
    outputs = of([[[1.0, 2.0, 5.0, 99.0]]], [[7.0]], lam=0.0, whiten=False)
    close(outputs.advantages[0][0], [1.0, 3.0, 2.0])
    close(outputs.returns[0][0], [2.0, 5.0, 7.0])


def test_what_was_cut_off_goes_on_with_the_value_after_its_last_token() -> None:
    outputs = of([[[1.0, 3.0, 10.0]]], [[0.5]], truncated=True, gamma=0.5, lam=0.0, whiten=False)
    close(outputs.advantages[0][0], [0.5, 0.5 + 5.0 - 3.0])
    ended = of([[[1.0, 3.0, 10.0]]], [[0.5]], gamma=0.5, lam=0.0, whiten=False)
    close(ended.advantages[0][0], [0.5, 0.5 - 3.0])


def test_whitened_over_all_tokens_of_all_groups() -> None:
    values = [[[1.0, 0.0, 9.0]], [[0.0, 9.0]]]
    plain, white = (of(values, [[1.0], [3.0]], lam=0.0, whiten=whiten) for whiten in (False, True))
    # -1, 1 and 3: the mean is 1, the variance 8/3.
    close(plain.advantages[0][0], [-1.0, 1.0])
    close(white.advantages[0][0], [-2 / (8 / 3) ** 0.5, 0.0])
    close(white.advantages[1][0], [2 / (8 / 3) ** 0.5])
    close(white.returns[0][0], plain.returns[0][0].tolist())


def test_nothing_is_divided_by_a_deviation_of_nothing() -> None:
    for rewards in ([[1.0, 1.0]], [[0.1, 0.1]]):
        outputs = of([[[0.0, 5.0], [0.0, -5.0]]], rewards)
        assert [row.tolist() for row in outputs.advantages[0]] == [[0.0], [0.0]]


def test_an_empty_completion_has_nothing() -> None:
    outputs = of([[[7.0], [1.0, 2.0]]], [[1.0, 1.0]], whiten=False)
    assert [len(row) for row in outputs.advantages[0]] == [len(row) for row in outputs.returns[0]] == [0, 1]
    assert len(of([[[7.0]]], [[1.0]]).advantages[0][0]) == 0


def test_a_value_after_the_end_changes_nothing_unless_the_completion_was_cut_off() -> None:
    one, other = (of([[[1.0, 2.0, after], [0.5, after]]], [[1.0, 0.0]]) for after in (0.0, 999.0))
    for found, expected in zip(one.advantages[0] + one.returns[0], other.advantages[0] + other.returns[0], strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("option", [{"gamma": 1.1}, {"lam": -0.1}])
def test_an_option_that_makes_no_sense_is_an_error(option: dict[str, float]) -> None:
    with pytest.raises(plugrad.OptionError, match=next(iter(option))):
        plugrad.load("advantage", "plugrad-objectives/gae", **option)
