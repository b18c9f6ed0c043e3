"""A command lives as long as its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from plugrad.rollout.servers import die_with_parent

# A server that starts another process, as vLLM does, and prints both ids.
SERVER = """
import os, subprocess, time
other = subprocess.Popen(["sleep", "60"])
print(os.getpid(), other.pid, flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, {die_with_parent.__file__!r}, str(os.getpid()), sys.executable, "-c", {SERVER!r}])
time.sleep(60)
"""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def are_gone(pids):
    start = time.monotonic()
    while any(map(is_alive, pids)) and time.monotonic() - start < 30:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent_however_that_ends(how):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert all(map(is_alive, pids))
    parent.send_signal(how)
    parent.wait()
    assert are_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child when its parent dies")
def test_a_command_gets_a_signal_when_the_script_itself_is_killed():
    command = [sys.executable, die_with_parent.__file__, str(os.getpid()), sys.executable, "-c", SERVER]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server, other = (int(pid) for pid in script.stdout.readline().split())
    script.kill()
    script.wait()
    try:
        assert are_gone([server])
    finally:
        os.kill(other, signal.SIGKILL)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks into /proc")
def test_it_ends_on_sigterm():
    command = [sys.executable, die_with_parent.__file__, str(os.getpid()), sys.executable, "-c", SERVER]
    script = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in script.stdout.readline().split()]
    script.send_signal(signal.SIGTERM)
    script.wait(30)
    assert are_gone(pids)


def test_the_commands_own_exit_code_is_passed_on():
    command = [sys.executable, die_with_parent.__file__, str(os.getpid()), sys.executable, "-c", "import sys; sys.exit(7)"]
    assert subprocess.run(command, check=False).returncode == 7
