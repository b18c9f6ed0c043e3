"""`solved`: the shares by hand, and that they add up over ranks and optimizer batches."""

from __future__ import annotations

import pytest
import torch

import plugrad
from plugrad import MetricInputs, Rollout
from plugrad_example.solved import solved


def rollout(reward: float) -> Rollout:
    """Return a rollout of one token."""
    return Rollout(
        prompt="1+1=",
        completion="2",
        prompt_ids=[0],
        completion_ids=[1],
        inference_logprobs=[-1.0],
        reward=reward,
        reward_components={},
        truncated=False,
        example={},
        metrics={},
        policy_versions=[0],
    )


def batch(*groups: list[float]) -> MetricInputs:
    """Return groups with these rewards."""
    rewards = torch.tensor([reward for group in groups for reward in group])
    zeros = torch.zeros(len(rewards), 2)
    return MetricInputs(
        rollouts=[[rollout(reward) for reward in group] for group in groups],
        rewards=rewards,
        advantages=zeros,
        loss_mask=torch.tensor([[False, True]] * len(rewards)),
        trainer_logprobs=zeros,
        inference_logprobs=zeros,
        group_ids=torch.tensor([i for i, group in enumerate(groups) for _ in group]),
    )


def shares(inputs: MetricInputs, threshold: float = 1.0) -> tuple[float, float]:
    """Return `any` and `all`."""
    found = solved(inputs, threshold=threshold)
    return found["any"].value(), found["all"].value()


def test_the_shares_by_hand() -> None:
    assert shares(batch([0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0])) == (0.75, 0.5)


def test_a_threshold() -> None:
    inputs = batch([0.2, 0.7], [0.6, 0.9])
    assert shares(inputs) == (0.0, 0.0)
    assert shares(inputs, threshold=0.7) == (1.0, 0.0)
    assert shares(inputs, threshold=0.6) == (1.0, 0.5)


def test_in_a_group_of_one_any_is_all() -> None:
    assert shares(batch([1.0], [0.0])) == (0.5, 0.5)


def test_shares_of_parts_add_up_to_that_of_the_whole() -> None:
    groups = [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    first, rest, whole = solved(batch(groups[0])), solved(batch(*groups[1:])), solved(batch(*groups))
    for name in ("any", "all"):
        assert (first[name] + rest[name]).value() == pytest.approx(whole[name].value())


@pytest.mark.parametrize("reference", ["solved", "plugrad-example/solved"])
def test_it_is_found_by_name(reference: str) -> None:
    found = plugrad.load("metric", reference, threshold=0.5)(batch([0.0, 0.5]))
    assert {name: measure.value() for name, measure in found.items()} == {"any": 1.0, "all": 0.0}


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match=r"'treshold'\. Did you mean 'threshold'"):
        plugrad.load("metric", "solved", treshold=0.5)
