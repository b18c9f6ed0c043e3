"""`plugrad check` of components that end their process, crash or hang: a failed check, named, and never exit code 0."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.usefixtures("quick_starts")

HANGS = "import threading\n        threading.Event().wait()"
ENDS = {
    "sys.exit": ("import sys\n        sys.exit()", "SystemExit"),
    "sys.exit with a code": ("import sys\n        sys.exit(3)", "SystemExit: 3"),
    "os._exit": ("import os\n        os._exit(0)", "ended the process with exit code 0"),
    "a segmentation fault": ("import ctypes\n        ctypes.string_at(1)", "ended the process with SIGSEGV"),
    "a signal": ("import os, signal\n        os.kill(os.getpid(), signal.SIGKILL)", "ended the process with SIGKILL"),
    "an interrupt of its own": ("raise KeyboardInterrupt", r"KeyboardInterrupt|exit code 130"),
    "GeneratorExit": ("raise GeneratorExit", "GeneratorExit"),
}
LOSS = """
from plugrad import LossInputs, LossOutputs

calls = []


def mine(inputs: LossInputs) -> LossOutputs:
    calls.append(1)
    if len(calls) > {after}:
        {end}
    return LossOutputs((-inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask).sum())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("end", "said"), ENDS.values(), ids=ENDS)
def test_a_component_that_ends_its_process_has_failed_the_check_that_ran(plugrad, folder, end, said):
    (folder / "mine.py").write_text(LOSS.format(after=0, end=end))
    done = plugrad("check", "./mine.py:mine")
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, text
    assert re.search(rf"runs .*{said}", text), text
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_what_finished_before_the_process_ended_is_shown(plugrad, folder):
    (folder / "mine.py").write_text(LOSS.format(after=200, end=ENDS["os._exit"][0]))
    done = plugrad("check", "./mine.py:mine")
    text = " ".join(done.stdout.split())
    assert done.returncode == 1, text
    assert re.search(r"CHECK RESULT SEEN runs ok .*seen it ended the process with exit code 0", text), text
    assert re.search(r"\d+ ok, 1 failed; the checks after it were not run", text), text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sys.exit with a code", "os._exit", "a segmentation fault"])
def test_one_that_ends_its_process_when_it_is_imported_is_an_error(plugrad, folder, name):
    end, said = ENDS[name]
    (folder / "mine.py").write_text(end.replace("\n        ", "\n"))
    done = plugrad("check", "./mine.py:mine", "--kind", "loss")
    assert done.returncode == 2
    text = " ".join(done.stderr.split())
    assert re.search(rf"mine.* cannot be imported: .*{said}", text), text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "place"), [(0, r"runs .*at .*mine.py, line 11"), (None, r"cannot be imported: .*mine.py, line 2")]
)
def test_one_that_hangs_is_told_with_the_check_and_the_line(plugrad, folder, after, place):
    code = HANGS.replace("\n        ", "\n") if after is None else LOSS.format(after=after, end=HANGS)
    (folder / "mine.py").write_text(code)
    done = plugrad("check", "./mine.py:mine", "--kind", "loss", "--check-timeout-s", "30")
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == (2 if after is None else 1)
    assert re.search(r"did not return within 30 s \(--check-timeout-s\).*", text), text
    assert re.search(place, text), text


@pytest.mark.slow
def test_ctrl_c_ends_a_check_that_hangs_and_says_which(folder):
    (folder / "mine.py").write_text(
        LOSS.format(after=0, end=f"open('hangs', 'w').write(str(__import__('os').getpid()))\n        {HANGS}")
    )
    command = [sys.executable, "-P", "-m", "plugrad", "check", "./mine.py:mine"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not ((folder / "hangs").exists() and (folder / "hangs").read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted during the check 'runs'." in printed
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "hangs").read_text()), 0)
