"""An auxiliary loss of routers that is not added is said, and how even their load is can be seen."""

import logging

import pytest
import torch

from plugrad.policy.policy import Policy
from plugrad.policy.routers import busiest_expert, expert_counts, ignored_router_loss
from plugrad.testing import tiny_model

MOE = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_size": 32}
ROLLOUT = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4}


def test_counts_and_load():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 0.0, 2.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    counts = expert_counts([logits], torch.tensor([True, True, False]), 2)
    assert counts.tolist() == [[2.0, 1.0, 1.0, 0.0]]
    assert busiest_expert(counts) == 2.0
    assert busiest_expert(torch.ones(3, 4)) == 1.0


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"output_router_logits": True, "router_aux_loss_coef": 0.02}, "router_aux_loss_coef = 0.02"),
        ({"output_router_logits": True, "router_aux_loss_coef": 0.0}, ""),
        ({"router_aux_loss_coef": 0.02}, ""),
    ],
)
def test_what_the_configuration_asks_for(fields, ignored):
    assert ignored_router_loss(tiny_model(**MOE, **fields)) == ignored


def test_a_run_says_so_and_measures_the_load(run, caplog):
    model = {"from_scratch": {**MOE, "output_router_logits": True, "router_aux_loss_coef": 0.02, "num_hidden_layers": 2}}
    with caplog.at_level(logging.WARNING, "plugrad"):
        result = run(model=model, rollout=ROLLOUT, max_steps=2)
    assert "router_aux_loss_coef = 0.02). It is not added to the objective" in caplog.text
    assert all(1 <= record["router/busiest_expert"] <= 2 for record in result.records)


def test_the_cut_changes_no_count():
    policy = Policy(tiny_model(dtype="float64", output_router_logits=True, initializer_range=0.3, **MOE), 1.0)
    ids = torch.arange(3, 27).view(4, 6)
    mask = torch.arange(6) < torch.tensor([6, 4, 3, 5]).unsqueeze(1)
    counted = mask.clone()
    counted[3] = False
    policy(ids, mask, counted)
    whole, policy.expert_counts = policy.expert_counts, None
    for row in range(4):
        policy(ids[row : row + 1], mask[row : row + 1], counted[row : row + 1])
    assert torch.equal(policy.expert_counts, whole)
    assert whole.sum() == (6 + 4 + 3) * 2 * len(whole)
