"""The arms are tried in a process of their own: what a plugin does there, the comparison survives."""

import pytest

from plugrad.compare.checking import check, refuse_broken, refuse_twins
from plugrad.errors import PluginError, RunFileError

PRINTS = """
import logging

def loss(inputs):
    logging.getLogger("plugrad").info("said by the loss")
    return -(inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask).sum()
"""
HANGS = "import time\n\ndef loss(inputs):\n    time.sleep(60)\n"
KILLS = "import os\n\nos.kill(os.getpid(), 9)\n"


def test_what_arms_log_is_told_once_with_their_names(run_file, write, caplog):
    write("prints.py", PRINTS)
    loud, quiet = run_file(loss={"name": "prints.py:loss"}), run_file()
    with caplog.at_level("INFO", "plugrad"):
        check({"one": loud, "two": loud, "three": quiet}, num_processes=1)
        assert [record.message for record in caplog.records if "said by" in record.message] == ["one, two: said by the loss"]
        caplog.clear()
        check({"one": loud, "two": loud}, num_processes=1)
        assert "said by the loss" in [record.message for record in caplog.records]


def test_a_plugin_that_ends_its_process_ends_no_comparison(run_file, write):
    write("kills.py", KILLS)
    with pytest.raises(PluginError, match=r"a plugin of the arm 'one' ended the process that checked it \(SIGKILL\)"):
        check({"one": run_file(loss={"name": "kills.py:loss"})}, num_processes=1)


def test_a_plugin_that_hangs_is_a_complaint_of_its_arm(run_file, write):
    write("hangs.py", HANGS)
    hangs = run_file(loss={"name": "hangs.py:loss"}, preflight_timeout_s=1.0)
    verdicts = check({"one": hangs, "two": run_file()}, num_processes=1)
    assert list(verdicts.checked) == ["two"]
    assert "did not return within 1 s" in verdicts.complaints["one"]


def test_every_complaint_is_told_with_its_arm():
    refuse_broken({}, 2)
    with pytest.raises(RunFileError) as caught:
        refuse_broken({"one": "PluginError: no", "two": "RunFileError: a\n    b"}, 3)
    assert str(caught.value).splitlines() == [
        "2 of 3 arms cannot be run, and nothing was started:",
        "    one: PluginError: no",
        "    two: RunFileError: a",
        "        b",
    ]


def test_twins_are_found_by_what_they_run_and_not_by_what_they_are_called(run_file):
    losses = {"one": "ppo_clip", "two": "plugrad/ppo_clip", "three": "importance_sampling"}
    checked = check({arm: run_file(loss={"name": name}) for arm, name in losses.items()}, num_processes=1).checked
    assert checked["one"].identity == checked["two"].identity != checked["three"].identity
    with pytest.raises(RunFileError, match="the arms 'one' and 'two' are the same run"):
        refuse_twins(checked)
    refuse_twins({arm: checked[arm] for arm in ("one", "three")})


def test_two_options_are_no_twins(run_file):
    files = {
        arm: run_file(loss={"name": "ppo_clip", "kwargs": {"clip_eps": eps}}) for arm, eps in (("one", 0.1), ("two", 0.2))
    }
    refuse_twins(check(files, num_processes=1).checked)
