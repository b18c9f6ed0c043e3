"""MetricInputs: rows are rollouts, and every tensor agrees about how many."""

import pytest
import torch

from plugrad import ContractError, MetricInputs


def inputs(groups, **changes):
    given = {
        "rollouts": groups,
        "rewards": torch.zeros(2),
        "advantages": torch.zeros(2, 3),
        "loss_mask": torch.ones(2, 3, dtype=torch.bool),
        "trainer_logprobs": torch.zeros(2, 3),
        "inference_logprobs": torch.zeros(2, 3),
        "group_ids": torch.tensor([0, 0]),
    }
    return MetricInputs(**{**given, **changes})


def test_what_a_metric_must_ask_for_is_none(rollout):
    built = inputs([[rollout(1.0, 3), rollout(0.0, 3)]])
    assert (built.entropy, built.old_logprobs, built.ref_logprobs, built.step) == (None, None, None, 0)


def test_replayed_completions_have_no_inference_logprobs(rollout):
    assert inputs([[rollout(1.0, 3), rollout(0.0, 3)]], inference_logprobs=None).inference_logprobs is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("advantages", torch.zeros(2)),
        ("loss_mask", torch.ones(2, 3)),
        ("trainer_logprobs", torch.zeros(2, 4)),
        ("group_ids", torch.zeros(2)),
        ("group_ids", torch.tensor([0, 0, 1])),
        ("entropy", torch.zeros(3, 3)),
        ("rollouts", [1.0, 0.0]),
    ],
)
def test_wrong_shapes_and_types_are_refused(field, wrong, rollout):
    with pytest.raises(ContractError, match=rf"^plugrad\.MetricInputs was given {field} = .*It takes .*\.$"):
        inputs([[rollout(1.0, 3), rollout(0.0, 3)]], **{field: wrong})
