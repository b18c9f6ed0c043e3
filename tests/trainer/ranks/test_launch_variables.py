"""What a launcher sets is checked before anything waits for the other processes."""

import json
import os
import subprocess
import sys

import pytest

from plugrad import RunFileError
from plugrad.trainer.ranks.launch_variables import check_launch_variables

LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
REFUSED = [
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'.*at least 1"),
    ({"WORLD_SIZE": "²"}, "WORLD_SIZE is '²'"),
    ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE is '999"),
    ({"WORLD_SIZE": "2\x1b[31m"}, r"WORLD_SIZE is '2\\x1b"),
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 in the environment, without RANK and LOCAL_RANK and MASTER_ADDR and MASTER_PORT"),
    ({"LOCAL_RANK": "first"}, "LOCAL_RANK is 'first'"),
    ({**LAUNCHED, "RANK": "2"}, "RANK is 2 in the environment, and WORLD_SIZE is 2"),
    ({**LAUNCHED, "RANK": "-1"}, "RANK is '-1'"),
    ({**LAUNCHED, "MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
    ({**LAUNCHED, "MASTER_PORT": "65536"}, "MASTER_PORT is 65536"),
    ({**LAUNCHED, "MASTER_ADDR": "no host"}, "MASTER_ADDR is 'no host'.*names no host"),
    ({**LAUNCHED, "MASTER_ADDR": "x" * 300}, "MASTER_ADDR is 'xxx.*names no host"),
    ({**LAUNCHED, "MASTER_ADDR": "a..b"}, "MASTER_ADDR is 'a..b'.*names no host"),
]


@pytest.mark.parametrize(("variables", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_no_launcher_sets_is_refused(variables, message):
    with pytest.raises(RunFileError, match=message) as caught:
        check_launch_variables(variables)
    assert "Unset the variables to train in one process" in str(caught.value)


@pytest.mark.parametrize(
    "variables", [{}, {"WORLD_SIZE": "1"}, {"LOCAL_RANK": "-1"}, LAUNCHED, {"RANK": "0", "WORLD_SIZE": "1"}]
)
def test_what_launchers_set_is_taken(variables):
    check_launch_variables(variables)


NONSENSE = [
    {"ACCELERATE_USE_CPU": "banana"},
    {"ACCELERATE_TORCH_DEVICE": "banana"},
    {"ACCELERATE_DYNAMO_BACKEND": "banana"},
    {"ACCELERATE_MIXED_PRECISION": "banana"},
    {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "banana"},
    {"FSDP_VERSION": "banana", "ACCELERATE_USE_FSDP": "true"},
    {"WORLD_SIZE": "banana"},
]
EACH_IN_A_CHILD = """
import json, os, sys, traceback
from plugrad import RunFileError
from plugrad.trainer.ranks.accelerate_config import make_accelerator
for variables in json.loads(sys.argv[1]):
    # Accelerate keeps what it read; a fork starts afresh and imports nothing again.
    child = os.fork()
    if not child:
        os.environ.update(variables)
        try:
            make_accelerator()
            print("taken", flush=True)
        except RunFileError as error:
            print(str(error).replace("\\n", " "), flush=True)
        except BaseException as error:
            print(f"not ours: {error!r}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_nonsense_in_accelerates_variables_is_refused_with_their_names():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_A_CHILD, json.dumps(NONSENSE)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for variables, line in zip(NONSENSE, done.stdout.splitlines(), strict=True):
        assert next(iter(variables)) in line, done.stdout
        assert "banana" in line
        assert not line.startswith(("not ours", "taken"))
