"""Every optimizer of PyTorch makes the same updates on two ranks as on one, sharded where it may be, and after a stop."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from scenario import Scenario, assert_same, three_steps
from test_checkpoints import HERE, on_two_ranks

from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.errors import PluginError
from plugrad.host.bound_optimizer import bound_optimizer
from plugrad.host.optimizer_class import OF_TORCH
from plugrad.host.optimizer_trial import check_shards

GROUPS = [{"match": "*.mlp.*", "lr": 3e-3}, {"match": "re:layers\\.0\\.", "weight_decay": 0.2}]
IN_GROUPS = (("weight_decay", 0.1), ("no_decay", True), ("groups", GROUPS))
OWN = f"{HERE}/counting_optimizer.py:Counting"
OPTIMIZERS = {
    **{name: (("name", name),) for name in OF_TORCH},
    "SGD with momentum": (("name", "SGD"), ("kwargs", {"momentum": 0.9, "nesterov": True})),
    "AdamW in groups": IN_GROUPS,
    "Muon in groups": (("name", "Muon"), *IN_GROUPS),
    "one of a file": (("name", OWN), ("schedule", "cosine_with_min_lr"), ("schedule_kwargs", {"min_lr_rate": 0.5})),
}
SCENARIOS = {
    name: Scenario(seed=8, num_groups=2, model=(("num_hidden_layers", 1),), optimizer=keys)
    for name, keys in OPTIMIZERS.items()
}
NOT_SHARDED = ("Adafactor", "Adagrad", "Muon", "Muon in groups", "Rprop")
STOPPED = ("ASGD", "Adafactor", "Adagrad", "SGD with momentum", "Muon in groups", "one of a file")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("optimizers")


@pytest.fixture(scope="module")
def alone(folder):
    """What one rank did; those of `STOPPED` left a checkpoint."""
    found = {}
    for name, scenario in SCENARIOS.items():
        (folder / name).mkdir()
        for file in ("run.toml", "plugins.json"):
            (folder / name / file).touch()
        kept = str(folder / name) if name in STOPPED else None
        found[name] = three_steps(replace(scenario, checkpoint_in=kept), Accelerator(cpu=True))
    return found


@pytest.fixture(scope="module")
def shared(folder):
    """What two ranks did, each with a part of every parameter where that is allowed."""
    two = {name: replace(scenario, shares=(1, 1), sharded=name not in NOT_SHARDED) for name, scenario in SCENARIOS.items()}
    return on_two_ranks(two, folder)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_ranks_do_what_one_does(shared, alone, name):
    assert_same(shared[name], alone[name])


@pytest.mark.parametrize("name", STOPPED)
def test_a_run_that_goes_on_is_the_same_to_the_bit(alone, folder, name):
    resumed = three_steps(replace(SCENARIOS[name], goes_on_in=str(folder / name)), Accelerator(cpu=True))
    for parameter, its in zip(resumed.parameters, alone[name].parameters, strict=True):
        assert torch.equal(parameter, its)


def test_they_are_different_optimizers(alone):
    # Without a weight decay, AdamW is Adam.
    trained = {name: tuple(result.parameters[0].flatten().tolist()) for name, result in alone.items() if name != "Adam"}
    assert len(set(trained.values())) == len(trained)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sharding_is_refused_where_it_would_change_something(name):
    bound = bound_optimizer(OptimizerTable.model_validate(dict(OPTIMIZERS[name])), [])
    if name in NOT_SHARDED:
        with pytest.raises(PluginError, match="cannot train a sharded policy"):
            check_shards(bound)
    else:
        check_shards(bound)
