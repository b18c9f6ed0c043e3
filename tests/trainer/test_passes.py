"""Nothing is computed twice: how often each model runs in a step, and with or without gradient."""

from collections import Counter

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from plugrad.policy.policy import Policy

MICRO_BATCHES = 2
PPO = {"name": "ppo_clip"}
TO_REFERENCE = {"name": "kl_to_reference", "weight": 0.1}


@pytest.fixture
def passes():
    """Count the forward passes of scored models, by whether they train and whether they keep a graph."""
    seen = Counter()

    def note(module, _inputs):
        if isinstance(module, Policy):
            seen["policy" if any(p.requires_grad for p in module.parameters()) else "frozen", torch.is_grad_enabled()] += 1

    handle = register_module_forward_pre_hook(note)
    yield seen
    handle.remove()


def one_step(run, updates, *losses, **tables):
    # Sixteen sequences of nine tokens each: there is one best way to cut them.
    return run(
        max_steps=1,
        updates_per_batch=updates,
        loss=list(losses),
        metrics=["reward"],
        tokens_per_micro_batch=9 * 16 // (updates * MICRO_BATCHES),
        environment={"name": "alike.py:Alike"},
        **tables,
    )


@pytest.fixture(autouse=True)
def alike(write):
    write(
        "alike.py",
        """
        class Alike:
            def train_examples(self):
                return [{"prompt": f"{i}+{i}=", "reference": "1234"} for i in range(8)]

            def eval_examples(self):
                return []

            def score(self, rollouts):
                return [float(index) for index, _ in enumerate(rollouts)]
        """,
    )


REPLAYED = {"rollout": {"engine": "dataset", "prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 5}}
GROUPS = {**REPLAYED, "advantage": {"name": "group_mean"}}


def test_with_one_update_the_old_log_probs_are_the_trainers_own(run, passes):
    one_step(run, 1, PPO, **GROUPS)
    assert passes == {("policy", True): MICRO_BATCHES}


def test_with_several_updates_those_of_the_later_ones_are_computed_before_the_first(run, passes):
    one_step(run, 2, PPO, **GROUPS)
    assert passes == {("policy", True): 2 * MICRO_BATCHES, ("policy", False): MICRO_BATCHES}


def test_with_several_updates_and_nobody_who_asks_they_are_not_computed(run, passes):
    one_step(run, 2, {"name": "importance_sampling"}, **GROUPS)
    assert passes == {("policy", True): 2 * MICRO_BATCHES}


def test_a_reference_runs_once_without_a_graph_whoever_asks_for_it(run, passes):
    one_step(run, 1, PPO, TO_REFERENCE, {**TO_REFERENCE, "weight": 0.2}, **GROUPS)
    assert passes == {("policy", True): MICRO_BATCHES, ("frozen", False): MICRO_BATCHES}
