"""Who has been working for how long: said while it works, and forgotten afterwards."""

import logging
import threading

import pytest

from plugrad.host.calling import call_plugin
from plugrad.host.calls_in_progress import long_calls_noticed, longest_call


@pytest.fixture
def heard():
    """Set once something is logged; the text is `heard.said`."""
    event = threading.Event()

    class Hears(logging.Handler):
        def emit(self, record):
            event.said = record.getMessage()
            event.set()

    handler = Hears()
    logging.getLogger("plugrad").addHandler(handler)
    yield event
    logging.getLogger("plugrad").removeHandler(handler)


def test_a_plugin_that_works_for_long_is_named_with_its_time(heard):
    with long_calls_noticed(" (rank 1 of 2)", first_s=0.01):
        # It returns because somebody said that it does not.
        assert call_plugin("the environment 'slow' (mine.py)", heard.wait, 60)
    assert "the environment 'slow' (mine.py) has been working for 0 s (rank 1 of 2). Ctrl-C twice" in heard.said


def test_the_innermost_of_the_longest_is_the_one_that_works():
    found = []
    call_plugin("outer", lambda: call_plugin("inner", lambda: found.append(longest_call())))
    assert found[0].owner == "inner"
    assert longest_call() is None


def test_a_call_that_raised_is_over():
    with pytest.raises(ValueError, match="mine raised KeyError"):
        call_plugin("mine", {}.__getitem__, "nothing")
    assert longest_call() is None
