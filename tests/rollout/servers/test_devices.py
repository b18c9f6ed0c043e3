"""Each server that is started beside others gets its own GPUs, as far as there are enough."""

import pytest
import torch

from plugrad.rollout.servers.devices import NUM_LOCAL_RANKS, VISIBLE_DEVICES, gpu_environment


@pytest.fixture
def gpus(monkeypatch):
    """Set the number of GPUs, and of the run's ranks on this machine."""

    def have(count, visible=None, ranks=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        for name, value in {VISIBLE_DEVICES: visible, NUM_LOCAL_RANKS: ranks}.items():
            monkeypatch.setenv(name, str(value)) if value is not None else monkeypatch.delenv(name, raising=False)

    return have


def shares(addresses, **beside):
    return [gpu_environment(address, addresses, **beside).get(VISIBLE_DEVICES) for address in addresses]


def test_beside_a_trainer_servers_share_the_gpus_that_its_ranks_leave(gpus):
    gpus(8, ranks=4)
    assert shares(["http://a:1", "http://a:2"], beside_trainer=True) == ["4,5", "6,7"]
    gpus(8)
    assert shares(["http://a:1"], beside_trainer=True) == ["1,2,3,4,5,6,7"]


def test_servers_see_only_what_this_process_sees(gpus):
    gpus(3, visible="6,GPU-1,2")
    assert shares(["http://a:1", "http://a:2"], beside_trainer=True) == ["GPU-1", "2"]


def test_with_too_few_gpus_servers_share_them(gpus):
    gpus(1)
    assert shares(["http://a:1"], beside_trainer=True) == [None]
    gpus(2)
    assert shares(["http://a:1", "http://a:2"], beside_trainer=True) == [None, None]


def test_without_a_trainer_servers_share_all_gpus_of_their_machine(gpus):
    gpus(4)
    assert shares(["http://a:1", "http://a:2", "http://b:1"], beside_trainer=False) == ["0,1", "2,3", None]
