"""Each server that is started beside others has GPUs of its own, as far as there are any."""

import pytest
import torch

from plugrad.rollout.servers.devices import RANKS_HERE, VISIBLE, devices_of


@pytest.fixture
def gpus(monkeypatch):
    """Have so many GPUs, and of the ranks of a run so many."""

    def have(count, visible=None, ranks=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        for name, value in {VISIBLE: visible, RANKS_HERE: ranks}.items():
            monkeypatch.setenv(name, str(value)) if value is not None else monkeypatch.delenv(name, raising=False)

    return have


def shares(addresses, **beside):
    return [devices_of(address, addresses, **beside).get(VISIBLE) for address in addresses]


def test_beside_a_trainer_servers_share_what_its_ranks_leave(gpus):
    gpus(8, ranks=4)
    assert shares(["http://a:1", "http://a:2"], beside_trainer=True) == ["4,5", "6,7"]
    gpus(8)
    assert shares(["http://a:1"], beside_trainer=True) == ["1,2,3,4,5,6,7"]


def test_what_this_process_may_see_is_what_they_may(gpus):
    gpus(3, visible="6,GPU-1,2")
    assert shares(["http://a:1", "http://a:2"], beside_trainer=True) == ["GPU-1", "2"]


def test_where_there_are_too_few_they_are_left_to_share(gpus):
    gpus(1)
    assert shares(["http://a:1"], beside_trainer=True) == [None]
    gpus(2)
    assert shares(["http://a:1", "http://a:2"], beside_trainer=True) == [None, None]


def test_servers_by_themselves_share_all_with_those_of_their_machine(gpus):
    gpus(4)
    assert shares(["http://a:1", "http://a:2", "http://b:1"], beside_trainer=False) == ["0,1", "2,3", None]
