"""Float32 masters of a sharded weight are sharded as it is."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from plugrad.host.master_weights import MASTER, step_with_masters
from plugrad.host.optimizer_state import state_of
from plugrad.host.several_optimizers import SeveralOptimizers


@pytest.fixture
def one_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_updates_are_those_of_the_whole_weight_to_the_bit():
    def trained(*, sharded):
        torch.manual_seed(0)
        model = nn.Linear(8, 6, bias=False, dtype=torch.bfloat16)
        if sharded:
            fully_shard(model)
        optimizer = SeveralOptimizers([AdamW(model.parameters(), lr=1e-5)], step_with_masters)
        for number in range(3):
            model(torch.linspace(-1, number + 1, 16, dtype=torch.bfloat16).view(2, 8)).sin().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return state_of(optimizer, model.weight)[MASTER], model.weight.detach()

    masters, weights = trained(sharded=True)
    assert isinstance(masters, DTensor)
    assert masters.dtype == torch.float32
    expected_masters, expected = trained(sharded=False)
    assert torch.equal(masters.full_tensor(), expected_masters)
    assert torch.equal(weights.full_tensor(), expected)
