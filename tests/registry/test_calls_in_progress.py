"""Who has been working for how long: said while it works, and forgotten afterwards."""

import logging
import sys
import threading

import pytest

from plugrad.host.calling import call_plugin
from plugrad.registry.bind import bind
from plugrad.registry.calls_in_progress import long_calls_noticed, longest_call
from plugrad.registry.resolve import load, resolve
from plugrad.registry.scan import scan
from plugrad.standard.environments.jsonl import Jsonl


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


FILE = """
from plugrad.registry.calls_in_progress import longest_call

def owner():
    call = longest_call()
    return call and call.owner

at_import = owner()

class Mine:
    def __init__(self):
        self.at_construction = owner()

def reward(completion, example):
    example["owner"] = owner()
    return 1.0
"""


def test_an_import_a_construction_and_a_reward_function_are_calls_too(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    source = resolve("environment", f"{file}:Mine", scan())
    mine = load(source)
    assert sys.modules[mine.__module__].at_import == str(source)
    assert bind(source, mine, {}).create().at_construction == str(source)
    (tmp_path / "lines.jsonl").write_text('{"prompt": "1+1="}')
    example = {"example_id": 0}
    Jsonl(tmp_path / "lines.jsonl", f"{file}:reward").score([{"completion": "2", "example": example}])
    assert example["owner"] == f"the reward function {file}:reward"
    assert longest_call() is None
