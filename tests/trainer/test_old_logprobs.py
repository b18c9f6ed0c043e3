"""The log-probs of the old policy: of the first update, its own; of later ones, from a pass before the first."""

from collections import Counter

import pytest
import torch

from plugrad.trainer.update import fixed_scores, step

LOSS = """
import plugrad


@plugrad.loss(needs={"old_logprobs"})
def far(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
    distance = (inputs.trainer_logprobs - inputs.old_logprobs).abs()
    return plugrad.LossOutputs(-inputs.trainer_logprobs, {"far": plugrad.Mean.over(distance, inputs.loss_mask)})
"""
UPDATES = 2
SMALL = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_first_update_knows_them_by_itself_unless_it_drops_out(run, write, monkeypatch, dropout):
    write("far.py", LOSS)
    passes, seen = Counter(), []
    real, trained = fixed_scores.fixed_logprobs, step.train_step

    def counting(learner, micro_batch, field):
        passes[field] += 1
        return real(learner, micro_batch, field)

    def looking(learner, micro_batches, *others):
        given = [m.old_logprobs for m in micro_batches]
        own = [real(learner, m, "old_logprobs") for m in micro_batches]
        outcome = trained(learner, micro_batches, *others)
        used = [inputs.old_logprobs for _, inputs in outcome.scored]
        seen.append((given, own, used))
        return outcome

    monkeypatch.setattr(fixed_scores, "fixed_logprobs", counting)
    monkeypatch.setattr("plugrad.trainer.update.run_updates.train_step", looking)
    model = {"from_scratch": SMALL, "lora": {"r": 2, "dropout": dropout}}
    run(loss=[{"name": "far.py:far"}], updates_per_batch=UPDATES, max_steps=1, model=model, metrics=[])
    (given, own, used), later = seen
    if dropout:
        assert all(torch.equal(one, other) for one, other in zip(given, used, strict=True))
    else:
        assert given == [None] * len(given)
    # What the loss gets is what a pass of its own would say.
    for one, other in zip(used, own, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert all(one is not None for one in later[0])
    assert passes["old_logprobs"] == len(later[0]) + (len(given) if dropout else 0)
