"""Which parameters an optimizer updates at which rates, and the learning rates of a schedule."""

import pytest
import torch
from torch.optim import SGD

from plugrad import OptionError, RunFile, RunFileError
from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.host.several_optimizers import SeveralOptimizers
from plugrad.policy.critic import Critic, ValueHead
from plugrad.policy.policy import Policy
from plugrad.testing import tiny_model
from plugrad.trainer.update.lr_schedule import check_lr_schedule, make_lr_schedule
from plugrad.trainer.update.optimizer import make_optimizer

NORM, BIAS, MATRIX = "model.norm.weight", "model.layers.0.self_attn.q_proj.bias", "model.layers.1.mlp.up_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def policy():
    model = tiny_model(attention_bias=True)
    return Policy(model, 1.0, critic=Critic(ValueHead(model.config.hidden_size)))


def optimizer_of(policy, **keys):
    tables = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}, "critic": {"lr": 0.5}}
    return make_optimizer(policy, RunFile(**tables, optimizer={"lr": 0.1, **keys}))


def rates_of(optimizer, policy):
    """Return learning rate and weight decay of every parameter by name."""
    names = {parameter: name for name, parameter in policy.named_parameters()}
    found = {
        names[parameter].removeprefix("model."): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(found) == len(names)
    return found


def test_without_groups_the_policy_is_one_and_the_critic_another(policy):
    groups = optimizer_of(policy).param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.1, 0.0), (0.5, 0.0)]
    assert list(groups[0]["params"]) == list(policy.model.parameters())


def test_vectors_and_embeddings_are_spared_the_decay(policy):
    rates = rates_of(optimizer_of(policy, weight_decay=0.3, no_decay=True), policy)
    assert [rates[name] for name in (NORM, BIAS, EMBEDDING, MATRIX)] == [(0.1, 0.0)] * 3 + [(0.1, 0.3)]
    assert rates["critic.head.linear.bias"] == (0.5, 0.0)
    assert rates["critic.head.linear.weight"] == (0.5, 0.3)


def test_the_first_group_that_matches_counts(policy):
    groups = [{"match": "*.layers.1.*", "lr": 0.7}, {"match": "*.mlp.*", "lr": 0.8, "weight_decay": 0.2}]
    optimizer = optimizer_of(policy, weight_decay=0.3, no_decay=True, groups=groups)
    rates = rates_of(optimizer, policy)
    assert rates[MATRIX] == (0.7, 0.3)
    assert rates[MATRIX.replace("layers.1", "layers.0")] == (0.8, 0.2)
    assert rates[BIAS.replace("layers.0", "layers.1")] == (0.7, 0.0)
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"match": "*.lora.*", "lr": 1.0}], r"optimizer.groups.0: match = '\*.lora.\*' matches none of the .*embed_tokens"),
        ([{"match": "*", "lr": 1.0}, {"match": NORM, "lr": 2.0}], "optimizer.groups.1: .* groups before it match them all"),
    ],
)
def test_a_group_without_parameters_is_an_error(policy, groups, message):
    with pytest.raises(RunFileError, match=message):
        optimizer_of(policy, groups=groups)


def test_muon_has_the_matrices_of_the_layers_and_adamw_the_rest(policy):
    optimizer = optimizer_of(policy, name="Muon", weight_decay=0.3, groups=[{"match": MATRIX, "lr": 0.9}])
    assert isinstance(optimizer, SeveralOptimizers)
    muon, adamw = optimizer.parts
    assert (type(muon).__name__, type(adamw).__name__) == ("Muon", "AdamW")
    of_muon = {parameter for group in muon.param_groups for parameter in group["params"]}
    names = dict(policy.model.named_parameters())
    assert names[MATRIX] in of_muon
    assert of_muon == {p for name, p in names.items() if p.dim() == 2 and ".layers." in name}
    assert rates_of(optimizer, policy)[MATRIX] == (0.9, 0.3)


def test_several_step_as_one_under_one_schedule():
    first, second = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = SeveralOptimizers([SGD([first], lr=1.0), SGD([second], lr=0.5)])
    schedule = make_lr_schedule(optimizer, OptimizerTable(lr=1.0, schedule="linear"), 2)
    for _ in range(2):
        (first.sum() + second.sum()).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    # 1 - 1 * (1 + 1/2) and 1 - 1/2 * (1 + 1/2)
    assert (first.tolist(), second.tolist()) == ([-0.5, -0.5], [0.25, 0.25])
    assert first.grad is None
    assert second.grad is None


@pytest.mark.parametrize(
    ("keys", "rates"),
    [
        ({}, [1.0, 1.0, 1.0, 1.0]),
        ({"warmup_ratio": 0.5}, [0.0, 0.5, 1.0, 1.0]),
        ({"schedule": "polynomial", "schedule_kwargs": {"lr_end": 0.5, "power": 1.0}}, [1.0, 0.875, 0.75, 0.625]),
        ({"schedule": "cosine_with_min_lr", "schedule_kwargs": {"min_lr": 0.5}}, [1.0, 0.926777, 0.75, 0.573223]),
        (
            {"schedule": "warmup_stable_decay", "schedule_kwargs": {"num_decay_steps": 2, "decay_type": "linear"}},
            [1, 1, 1, 0.5],
        ),
        ({"schedule": "inverse_sqrt", "warmup_updates": 1}, [0.0, 1.0, 2**-0.5, 3**-0.5]),
    ],
)
def test_the_rates_of_a_schedule(keys, rates):
    table = OptimizerTable(lr=1.0, **keys)
    check_lr_schedule(table, 4)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = make_lr_schedule(optimizer, table, 4)
    found = []
    for _ in range(4):
        found += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(rates, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        ("polynomial", {"power_": 2.0}, r"'polynomial' .* has no option 'power_'. Did you mean 'power'\?"),
        ("polynomial", {"lr_end": 2.0}, "cannot be used: lr_end .2.0. must be smaller than initial lr"),
        ("cosine_with_min_lr", {}, "One of min_lr or min_lr_rate should be set"),
        ("cosine", {"num_cycles": "two"}, "the option 'num_cycles' is 'two', which is not float"),
        ("cosine", {"num_warmup_steps": 2}, "has no option 'num_warmup_steps'"),
        ("warmup_stable_decay", {}, r"needs the option num_decay_steps .*under \[optimizer.schedule_kwargs\]"),
        ("linear", {"power": 1.0}, "It takes no options"),
    ],
)
def test_options_that_a_schedule_does_not_take(schedule, options, message):
    with pytest.raises(OptionError, match=message):
        check_lr_schedule(OptimizerTable(lr=1.0, schedule=schedule, schedule_kwargs=options), 4)
