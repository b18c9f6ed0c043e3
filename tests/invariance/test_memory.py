"""What waits in the machine's memory changes no bit of an update, nor of a run that goes on."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from accelerate import Accelerator
from scenario import SEVERAL, Scenario, three_steps

ALL = (("offload_optimizer", True), ("offload_activations", True), ("offload_reference", True))
SMALL = (("num_hidden_layers", 1), ("hidden_size", 64), ("intermediate_size", 256))
SCENARIOS = {
    "several losses": Scenario(seed=8, terms=SEVERAL, budget=60, updates_per_batch=2, model=SMALL),
    "checkpointing, a critic": Scenario(seed=4, terms=SEVERAL, critic=True, checkpointing=True, model=SMALL),
    "an adapter": Scenario(seed=2, terms=SEVERAL, budget=60, model=SMALL, lora=()),
    "Muon": Scenario(seed=2, budget=60, model=SMALL, optimizer=(("name", "Muon"), ("weight_decay", 0.1))),
}


@cache
def plain(name):
    return three_steps(SCENARIOS[name], Accelerator(cpu=True))


def assert_same_bits(found, wanted, first=0):
    assert found.records == wanted.records[first:]
    for ours, theirs in zip(
        [*found.gradients, found.parameters], [*wanted.gradients[first:], wanted.parameters], strict=True
    ):
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("name", SCENARIOS)
def test_updates_are_the_same_to_the_bit(name):
    assert_same_bits(three_steps(replace(SCENARIOS[name], memory=ALL), Accelerator(cpu=True)), plain(name))


@pytest.mark.parametrize("key", ["offload_optimizer", "offload_activations", "offload_reference"])
def test_each_moves_something(key, monkeypatch):
    moved = []
    if key == "offload_reference":
        module = "torch.nn.Module.to"
        real = torch.nn.Module.to
        monkeypatch.setattr(module, lambda self, *args: (moved.append(args), real(self, *args))[1])
    else:
        from plugrad.policy import offloading

        real = offloading._to_cpu
        monkeypatch.setattr(offloading, "_to_cpu", lambda tensor: (moved.append(tensor.shape), real(tensor))[1])
    scenario = SCENARIOS["several losses"]
    three_steps(scenario, Accelerator(cpu=True))
    before = len(moved)
    three_steps(replace(scenario, memory=((key, True),)), Accelerator(cpu=True))
    assert len(moved) > 2 * before


def test_a_run_goes_on_with_another_setting(tmp_path):
    for file in ("run.toml", "plugins.json"):
        (tmp_path / file).touch()
    scenario = SCENARIOS["several losses"]
    three_steps(replace(scenario, memory=ALL, checkpoint_in=str(tmp_path)), Accelerator(cpu=True))
    for memory in (ALL, ()):
        found = three_steps(replace(scenario, memory=memory, goes_on_in=str(tmp_path)), Accelerator(cpu=True))
        assert_same_bits(found, plain("several losses"), first=2)
