"""A loss that keeps the graph of an earlier micro-batch is named, and no other is."""

import pytest

from plugrad import ContractError

KEEPS = """
    from plugrad import BatchLossInputs, LossOutputs

    KEPT = []


    def keeps(inputs: BatchLossInputs):
        per_token = -inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask
        if inputs.step and KEPT:
            per_token = per_token + 0.1 * KEPT[-1] * inputs.loss_mask
        if inputs.step:
            KEPT.append(per_token.mean(){detached})
        return LossOutputs(per_token)
"""
LOSSES = [{"name": "importance_sampling"}, {"name": "keeping.py:keeps"}, {"name": "ppo_clip"}]


def test_the_loss_is_named_with_the_remedy(run, write):
    write("keeping.py", KEEPS.format(detached=""))
    with pytest.raises(
        ContractError, match=r"the loss 'keeps' .*keeping.py.* keeps the graph of an earlier micro-batch.*tensor.detach\(\)"
    ):
        run(loss=LOSSES)


def test_what_is_detached_may_be_kept(run, write):
    write("keeping.py", KEEPS.format(detached=".detach()"))
    assert len(run(loss=LOSSES).records) == 3
