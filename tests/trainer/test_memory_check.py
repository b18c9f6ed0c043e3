"""What `[memory]` cannot do is refused with the reason, before a model loads."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from plugrad import RunFileError
from plugrad.host.select import select
from plugrad.trainer.memory_check import check_memory

KL = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]


def on(device="cuda", kind=DistributedType.NO):
    """Stand in for Accelerate on a machine that this one is not."""
    return SimpleNamespace(device=torch.device(device), distributed_type=kind)


@pytest.mark.parametrize("key", ["offload_optimizer", "offload_activations", "offload_reference"])
def test_on_a_cpu_there_is_nothing_to_move(run, key):
    with pytest.raises(RunFileError, match=f"memory.{key} is true, and this run trains on a CPU.*Leave it out"):
        run(memory={key: True})


@pytest.mark.parametrize(
    ("keys", "where", "tables", "message"),
    [
        (["offload_optimizer"], on(kind=DistributedType.FSDP), {}, "FSDP2 shards this run: PyTorch keeps"),
        (["offload_activations"], on(kind=DistributedType.FSDP), {}, "Use model.gradient_checkpointing instead"),
        (
            [],
            on(kind=DistributedType.FSDP),
            {"model": {"name": "a", "lora": {}, "quantization": "nf4"}},
            r"packed weights of 4 bits are not cut along their rows.*Train without sharding \(distributed_type: MULTI_GPU\)",
        ),
        (["offload_reference"], on(), {}, "no component of this run needs a reference"),
        (
            ["offload_reference"],
            on(),
            {"loss": KL, "model": {"name": "a", "lora": {}}},
            "the reference is the policy with its adapter off",
        ),
    ],
)
def test_what_cannot_be_or_would_do_nothing(run_file, keys, where, tables, message):
    file = run_file(memory=dict.fromkeys(keys, True), **tables)
    with pytest.raises(RunFileError, match=message):
        check_memory(file, select(file), where)


def test_an_optimizer_that_may_look_at_all_weights_at_once_is_refused(run_file, write):
    write("own.py", "import torch\nclass Own(torch.optim.SGD):\n    pass\n")
    file = run_file(memory={"offload_optimizer": True}, optimizer={"name": "own.py:Own"})
    with pytest.raises(RunFileError, match=r"Own.* is not known to update each weight by itself"):
        check_memory(file, select(file), on())


def test_the_rest_is_taken(run_file):
    everything = {"offload_optimizer": True, "offload_activations": True, "offload_reference": True}
    for kind in (DistributedType.NO, DistributedType.MULTI_GPU):
        file = run_file(memory=everything, loss=KL)
        check_memory(file, select(file), on(kind=kind))
    file = run_file(memory={"offload_reference": True}, loss=KL)
    check_memory(file, select(file), on(kind=DistributedType.FSDP))
