"""Output in a narrow terminal, without colour, and in a pipe, through a real pseudo-terminal."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])(;[0-9]+)*m")


@pytest.fixture
def terminal(folder):
    """Run plugrad in a terminal with this many columns. Return its output."""

    def run(columns, *arguments, **environment):
        pid, descriptor = pty.fork()
        if pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLUMNS": str(columns), **environment})
            os.execv(sys.executable, [sys.executable, "-m", "plugrad", *arguments])
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        written = b""
        while True:
            try:
                chunk = os.read(descriptor, 65536)
            except OSError:
                break
            if not chunk:
                break
            written += chunk
        os.waitpid(pid, 0)
        return written.decode()

    return run


def test_in_forty_columns_names_are_whole_and_the_progress_stays_on_one_line(terminal):
    for columns in (40, 80):
        listed = ESCAPE.sub("", terminal(columns, "plugins", "list"))
        (line,) = [line for line in listed.splitlines() if "importance_sampling" in line]
        assert line.split()[0] == "importance_sampling"
        assert len(line) <= columns
    written = terminal(40, "train", "run.toml")
    progress = [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", written)) if re.match(r"\s*\d/3 ", line)]
    assert progress
    assert all(len(line.rstrip()) <= 40 for line in progress)
    assert "runs/run/model" in written


def test_in_a_terminal_plugins_stand_under_their_kind_and_package(terminal):
    lines = ESCAPE.sub("", terminal(80, "plugins", "list")).replace("\r", "").splitlines()
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert headings == ["LOSSES", "ADVANTAGES", "METRICS", "ENVIRONMENTS", "EXTENSIONS"]
    losses, advantages = lines[: lines.index("ADVANTAGES")], lines[lines.index("ADVANTAGES") :]
    assert losses[1] == "  plugrad 0.1.0"
    assert any(line.startswith("    ppo_clip ") and "PPO's clipped surrogate (arXiv" in line for line in losses)
    assert any(line.startswith("    group_mean ") and line.endswith("…") for line in advantages)


def test_no_color_is_respected(terminal):
    coloured = terminal(100, "train", "run.toml", "--set", "loss.name=gpso")
    plain = terminal(100, "train", "run.toml", "--set", "loss.name=gpso", NO_COLOR="1")
    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)
    assert "no loss is called 'gpso'" in plain
