"""The time limit of a plugin's call."""

import signal
import time

import pytest

from plugrad.errors import ContractError
from plugrad.host.time_limit import time_limit


@pytest.fixture(params=[signal.SIG_IGN, signal.SIG_DFL, signal.default_int_handler], ids=["ignored", "default", "pythons"])
def handler(request):
    """What Ctrl-C does in this process: a shell without job control has its background ignore it."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_what_hangs_is_ended_and_ctrl_c_does_what_it_did_before(handler):
    started = time.monotonic()
    with pytest.raises(ContractError, match=r"it did not return within 0\.1 s\. Wait\."), time_limit(0.1, "it", "Wait."):
        time.sleep(30)
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_comes_back_in_time_is_left_alone(handler):
    with time_limit(10.0, "it", "Wait."):
        pass
    assert signal.getsignal(signal.SIGINT) is handler
