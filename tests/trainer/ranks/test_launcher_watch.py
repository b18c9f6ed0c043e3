"""A rank ends with its launcher: from its first moment on, and with its model saved once it trains."""

import os
import signal
import subprocess
import sys

import pytest

from plugrad.launcher_watch import LAUNCH_FOLDER, LAUNCHER

RANK = """
import signal
from plugrad.launcher_watch import end_with_launcher

end_with_launcher()
print("watches", flush=True)
signal.pause()
"""
START_A_RANK = """
import os, subprocess, sys

rank = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, "PLUGRAD_LAUNCHER": str(os.getpid())})
rank.wait()
"""


@pytest.mark.parametrize("variable", [LAUNCHER, "TORCHELASTIC_RUN_ID"])
def test_a_rank_ends_with_a_launcher_that_is_killed(tmp_path, variable):
    (tmp_path / "launch").mkdir()
    environment = {**os.environ, variable: "0", LAUNCH_FOLDER: str(tmp_path / "launch")}
    start = START_A_RANK if variable == LAUNCHER else START_A_RANK.replace('"PLUGRAD_LAUNCHER"', '"UNUSED"')
    launcher = subprocess.Popen([sys.executable, "-c", start, RANK], stdout=subprocess.PIPE, text=True, env=environment)
    assert launcher.stdout.readline() == "watches\n"
    launcher.kill()
    # The end of the output: the last process that holds it has ended.
    assert launcher.communicate(timeout=60)[0] == ""
    assert not (tmp_path / "launch").exists()


def test_a_rank_whose_launcher_was_gone_before_it_started_ends():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = {**os.environ, LAUNCHER: str(gone.pid)}
    rank = subprocess.run([sys.executable, "-c", RANK], check=False, timeout=60, stdout=subprocess.PIPE, env=environment)
    assert rank.returncode == -signal.SIGTERM


def test_what_a_rank_starts_has_another_parent():
    environment = {**os.environ, LAUNCHER: str(os.getpid())}
    code = f"{RANK.replace('signal.pause()', '')}\nimport os\nassert {LAUNCHER!r} not in os.environ"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60, env=environment).returncode == 0
