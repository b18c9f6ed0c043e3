"""A rollout as engines and environments leave it."""

import pytest

from plugrad import Rollout


@pytest.fixture
def rollout():
    """Make a rollout with this reward and so many completion tokens."""

    def make(reward, length):
        return Rollout(
            prompt="2+3=",
            completion="5",
            prompt_ids=[7, 8],
            completion_ids=[1] * length,
            inference_logprobs=[-0.5] * length,
            reward=reward,
            reward_components={},
            truncated=False,
            example={"example_id": 0, "prompt": "2+3="},
            metrics={},
            policy_versions=[0] * length,
        )

    return make
