"""However a batch is cut into micro-batches, the update is the same: in float64, to 1e-9."""

import random

import pytest
import torch
from accelerate import Accelerator

from plugrad import RunFile
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Hooks, Host
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss
from plugrad.policy.loading import LoadedModel
from plugrad.policy.micro_batches import Layout
from plugrad.registry.scan import scan
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.collect import RolloutBatch
from plugrad.trainer.learner import make_learner
from plugrad.trainer.optimizer_batches import optimizer_batches
from plugrad.trainer.step import Progress, train_step

REDUCTIONS = ["token", "sequence", "sequence_sum", "constant", "group"]
SEQUENCE_FORM = """
from plugrad import LossInputs, LossOutputs, Mean, loss

@loss(needs={"old_logprobs", "entropy"})
def by_sequence(inputs: LossInputs) -> LossOutputs:
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    loss = -(ratio * inputs.advantages + 0.1 * inputs.entropy)[inputs.loss_mask].sum()
    return LossOutputs(loss, {"ratio": Mean.over(ratio, inputs.loss_mask), "length": inputs.loss_mask.sum().double()})
"""
BATCH_FORM = SEQUENCE_FORM.replace("LossInputs,", "BatchLossInputs,").replace(": LossInputs", ": BatchLossInputs")
BATCH_FORM = BATCH_FORM.replace("[inputs.loss_mask].sum()", "").replace("loss_mask.sum()", "loss_mask.sum(1)")


def rollouts(seed, *, dead_group=False, empty=False):
    """Four groups of three with lengths drawn at random; prompts differ in length too."""
    draw = random.Random(seed)
    groups = [[_rollout(draw, group) for _ in range(3)] for group in range(4)]
    if empty:
        groups[1][2]["completion_ids"] = []
        groups[1][2]["inference_logprobs"] = []
    advantages = [
        [[draw.uniform(-1, 1) * (not dead_group or g != 2)] * len(r["completion_ids"]) for r in group]
        for g, group in enumerate(groups)
    ]
    return RolloutBatch(groups, [[0.0] * 3] * 4, advantages)


def _rollout(draw, group):
    ids = [draw.randrange(3, 100) for _ in range(draw.randint(1, 12))]
    return {
        "prompt_ids": [draw.randrange(3, 100) for _ in range(2 + group)],
        "completion_ids": ids,
        "inference_logprobs": [draw.uniform(-5, -3) for _ in ids],
        "reward": 0.0,
        "example": {"example_id": group},
    }


def losses(*terms, folder=None):
    bound = []
    for name, weight, reduction in terms:
        component = load_component("loss", name, {}, scan(), [folder] if folder else [])
        bound.append(BoundLoss.create(component, label=f"{component.name}/{reduction}", weight=weight, reduction=reduction))
    return bound


def three_updates(batch, bound, *, budget, updates_per_batch=1, checkpointing=False):
    """Train three steps on the same batch; return losses, gradient norms, loss metrics and the parameters."""
    tables = {
        "max_steps": 3,
        "updates_per_batch": updates_per_batch,
        "model": {"from_scratch": {"model_type": "qwen3"}},
        "environment": {"name": "arithmetic"},
        "rollout": {"prompts_per_step": 4},
        "optimizer": {"lr": 1e-2, "max_grad_norm": 0.05},
    }
    model = tiny_model(dtype="float64")
    assert model.config._attn_implementation == "sdpa"
    if checkpointing:
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})
    needs = frozenset().union(*(loss.needs for loss in bound))
    learner = make_learner(RunFile(**tables), LoadedModel(model, tiny_tokenizer()), needs, Accelerator(cpu=True))
    advantage = load_component("advantage", "constant", {}, scan(), [])
    hooks = Hooks(Host(BoundAdvantage(advantage, advantage.create()), []), [])
    seen, num_micro_batches = [], 0
    for step in range(3):
        layout = Layout(budget, 0, torch.float64)
        cuts = optimizer_batches(batch, updates_per_batch=updates_per_batch, max_new_tokens=16, layout=layout)
        for cut in [[learner.with_fixed_logprobs(m) for m in c.micro_batches] for c in cuts]:
            outcome = train_step(learner, cut, bound, hooks, Progress(step, 3))
            num_micro_batches = max(num_micro_batches, len(cut))
            seen.append(outcome.measures.values_by_name())
    return seen, [parameter.detach() for parameter in model.parameters()], num_micro_batches


def assert_same(found, expected):
    for record, wanted in zip(found[0], expected[0], strict=True):
        assert record == pytest.approx(wanted, rel=1e-9, abs=1e-12, nan_ok=True)
    for parameter, wanted in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(parameter, wanted, rtol=1e-9, atol=1e-11)


ALL_AT_ONCE = 10_000


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("budget", [20, 40, 60, 110])
def test_the_cut_does_not_matter(reduction, budget):
    batch = rollouts(0)
    bound = losses(("ppo_clip", 1.0, reduction))
    whole = three_updates(batch, bound, budget=ALL_AT_ONCE)
    cut = three_updates(batch, bound, budget=budget)
    assert whole[2] == 1 < cut[2]
    assert_same(cut, whole)


def test_several_losses_with_their_own_reductions():
    batch = rollouts(1)
    bound = losses(
        ("ppo_clip", 1.0, "token"),
        ("kl_to_reference", 0.3, "sequence"),
        ("entropy_bonus", 0.1, "group"),
        ("importance_sampling", 0.5, "constant"),
    )
    assert_same(three_updates(batch, bound, budget=30), three_updates(batch, bound, budget=ALL_AT_ONCE))


@pytest.mark.parametrize("updates_per_batch", [2, 4])
def test_several_updates_of_one_batch(updates_per_batch):
    batch = rollouts(2)
    bound = losses(("ppo_clip", 1.0, "sequence"))
    whole = three_updates(batch, bound, budget=ALL_AT_ONCE, updates_per_batch=updates_per_batch)
    assert_same(three_updates(batch, bound, budget=25, updates_per_batch=updates_per_batch), whole)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_group_without_advantage_and_a_sequence_without_a_counted_token(reduction):
    batch = rollouts(3, dead_group=True, empty=True)
    bound = losses(("ppo_clip", 1.0, reduction))
    assert_same(three_updates(batch, bound, budget=30), three_updates(batch, bound, budget=ALL_AT_ONCE))


def test_an_order_of_the_sequences_within_their_groups_does_not_matter():
    batch = rollouts(4)
    turned = RolloutBatch([g[::-1] for g in batch.groups], batch.rewards, [a[::-1] for a in batch.advantages])
    bound = losses(("ppo_clip", 1.0, "group"))
    assert_same(three_updates(turned, bound, budget=30), three_updates(batch, bound, budget=ALL_AT_ONCE))


def test_gradient_checkpointing():
    batch = rollouts(5)
    bound = losses(("ppo_clip", 1.0, "token"), ("entropy_bonus", 0.1, "token"))
    whole = three_updates(batch, bound, budget=ALL_AT_ONCE)
    assert_same(three_updates(batch, bound, budget=30, checkpointing=True), whole)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_form_of_a_loss_does_not_matter(tmp_path, reduction):
    (tmp_path / "sequence_form.py").write_text(SEQUENCE_FORM)
    (tmp_path / "batch_form.py").write_text(BATCH_FORM)
    batch = rollouts(6)
    one = losses(("sequence_form.py:by_sequence", 1.0, reduction), folder=tmp_path)
    other = losses(("batch_form.py:by_sequence", 1.0, reduction), folder=tmp_path)
    assert one[0].component.form != other[0].component.form
    assert_same(three_updates(batch, one, budget=30), three_updates(batch, other, budget=ALL_AT_ONCE))


DIVIDES = """
from plugrad import BatchLossInputs, LossOutputs

def mean_of_its_own(inputs: BatchLossInputs) -> LossOutputs:
    per_token = -inputs.trainer_logprobs * inputs.advantages
    return LossOutputs(per_token * inputs.loss_mask / inputs.loss_mask.sum())
"""


def test_a_loss_that_divides_by_its_micro_batchs_own_counts_is_seen_here(tmp_path):
    (tmp_path / "divides.py").write_text(DIVIDES)
    batch = rollouts(7)
    bound = losses(("divides.py:mean_of_its_own", 1.0, "sequence_sum"), folder=tmp_path)
    whole, cut = (three_updates(batch, bound, budget=budget) for budget in (ALL_AT_ONCE, 30))
    assert abs(whole[0][0]["loss"] - cut[0][0]["loss"]) > 0.1 * abs(whole[0][0]["loss"])
