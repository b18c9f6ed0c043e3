"""Records that somebody or something has damaged, and options that ask for too much: errors of ours, and no run is lost."""

import json

import pytest

from plugrad import RunFileError
from plugrad.compare.arms import arms_of
from plugrad.compare.comparison import seeds_of
from plugrad.compare.progress import Progress, last_record
from plugrad.compare.run_process import failure_reason, run_in_process
from plugrad.compare.summary import summarize
from plugrad.trainer.record.plugins_file import read_plugins

DAMAGED = {
    "NULs": b"\0" * 100,
    "half a line": b'{"step": 3, "rew',
    "no object": b"[1, 2]",
    "no step": b'{"reward": 1.0}',
    "a step that is text": b'{"step": "three", "num_tokens": 1}',
    "a value that is text": b'{"step": 3, "num_tokens": 1, "reward": "high"}',
    "nested too deep": b"[" * 100_000,
    "a number too long": b'{"step": ' + b"9" * 5000 + b"}",
    "not UTF-8": b'{"step": 3, "num_tokens": 1, "\xff": 1}',
    "no tokens": b'{"step": 3}',
    "NaN": b'{"step": 3, "num_tokens": 1, "reward": NaN}',
    "beyond a float": b'{"step": 3, "num_tokens": 1, "reward": 1e999}',
    "an integer beyond a float": b'{"step": 3, "num_tokens": 1, "reward": ' + b"9" * 400 + b"}",
    "a key twice": b'{"step": 3, "num_tokens": 1, "num_tokens": 2}',
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_run_whose_record_is_damaged_is_run_again(finished, damage, line):
    run, other = finished("arm", 0, [0.1, 0.2, 0.3]), finished("arm", 1, [0.1, 0.2, 0.3])
    path = run.folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:line], damage, *lines[line + 1 :]]) + b"\n")
    assert not run.is_finished
    assert run.is_damaged
    assert other.is_finished
    assert not other.is_damaged
    assert summarize([run, other], "arm").num_finished == 1
    assert Progress([run, other]).number("done") == 1


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_does_not_end_a_run_that_goes_on(finished, damage):
    run = finished("arm", 0, [0.1])
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    assert last_record(run.folder) is None
    progress = Progress([run])
    progress.note_start(run)
    progress.note_step(run)


def test_a_record_of_more_than_64_kib_is_read(finished):
    run = finished("arm", 0, [0.1, 0.2], **{f"metric/{number}": 1.5 for number in range(20_000)})
    assert last_record(run.folder)["step"] == 2


@pytest.mark.parametrize(
    "outcome", ["", "[]", "{}", '{"exit_code": "0", "num_steps": 1, "seconds": 1}', "[" * 100_000, "\0", "9" * 5000]
)
def test_a_damaged_outcome_is_none(finished, outcome):
    run = finished("arm", 0, [0.1])
    (run.folder / "outcome.json").write_text(outcome)
    assert run.outcome is None


LEAVES = """
import ctypes
from plugrad import LossInputs, LossOutputs


def mine(inputs: LossInputs) -> LossOutputs:
    if inputs.max_steps > 1:
        ctypes.CDLL(None)._exit(0)
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask).sum())
"""


def test_a_run_that_a_plugin_ends_with_exit_code_0_has_failed(write, tmp_path, finished):
    write("leaves.py", LEAVES)
    planned = finished("arm", 0, [0.1, 0.2, 0.3])
    planned.run_file.write_text(
        f'search_paths = ["{tmp_path}"]\nmax_steps = 3\nloss.name = "leaves.py:mine"\nenvironment.name = "arithmetic"\n'
        "[rollout]\nprompts_per_step = 4\nrollouts_per_example = 4\nmax_new_tokens = 4\n"
        '[model.from_scratch]\nmodel_type = "qwen3"\nhidden_size = 32\nnum_hidden_layers = 2\n'
    )
    outcome = run_in_process(planned, None, None, lambda: None)
    assert outcome.exit_code == 0
    assert "something in it ended its process, with exit code 0 and without its model" in outcome.error
    assert not planned.is_finished
    progress = Progress([planned])
    progress.note_end(planned)
    assert progress.number("failed") == 1


@pytest.mark.parametrize("signal", [9, 11, 35, 64])
def test_every_signal_has_a_name(tmp_path, signal):
    (tmp_path / "log.txt").write_text("")
    assert failure_reason(tmp_path / "log.txt", -signal).startswith("ended by ")


def test_the_end_of_a_long_log_is_enough(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"x" * 2**22 + b"\nValueError: no\n")
    assert failure_reason(tmp_path / "log.txt", 1) == "ValueError: no"


@pytest.mark.parametrize("name", ["comparison.json", "Table.md", "curves.svg", "comparison.json.unfinished"])
def test_an_arm_is_not_called_like_a_file_of_the_comparison(name):
    with pytest.raises(RunFileError, match="the comparison has a file of that name"):
        arms_of([], [f"{name}: loss.name=ppo_clip"])


def test_an_arm_whose_name_is_too_long_for_a_folder_is_refused():
    with pytest.raises(RunFileError, match=r"longer than 200 bytes.*--arm 'NAME:"):
        arms_of([], ["x" * 300 + ": loss.name=ppo_clip"])


def test_too_many_arms_are_refused_before_they_are_made():
    values = ",".join(map(str, range(100)))
    with pytest.raises(RunFileError, match=f"these are {100**8} arms, and a comparison has 1000 at most"):
        arms_of([f"loss.kwargs.k{number}={values}" for number in range(8)], [])
    assert len(arms_of(["loss.kwargs.k=[1,2,3],2"], [])) == 2


@pytest.mark.parametrize("text", ["100000000000", "9" * 4000, "9" * 5000, "10001"])
def test_too_many_seeds_are_refused_before_they_are_counted(text):
    with pytest.raises(RunFileError, match=r"^--seeds .{1,80}: (a comparison has 10000 seeds at most|write how many)"):
        seeds_of(text, 0)


@pytest.mark.parametrize(
    ("text", "first", "complaint"),
    [
        ("-1,2", 0, "seed: Input should be greater than or equal to 0. It is -1"),
        ("-1,", 0, "seed: Input should be greater than or equal to 0. It is -1"),
        ("4294967296,", 0, "seed: Input should be less than 4294967296. It is 4294967296"),
        ("0,99999999999999999999", 0, "seed: Input should be less than 4294967296"),
        ("3", 2**32 - 2, "seed: Input should be less than 4294967296. It is 4294967296"),
        ("5,5", 0, "list them, each once"),
        ("5,05", 0, "list them, each once"),
        ("1,x", 0, "write how many"),
        ("x", 0, "write how many"),
        ("1.5", 0, "write how many"),
        ("-3", 0, "write how many"),
        ("", 0, "write how many"),
        (",", 0, "write how many"),
        ("1_0,2", 0, "write how many"),
        ("\u0663,", 0, "write how many"),
        ("0," + "9" * 5000, 0, "write how many"),
        (",".join(map(str, range(10_001))), 0, "10000 seeds at most"),
    ],
)
def test_seeds_that_no_run_takes_are_refused_in_the_words_of_a_run_file(text, first, complaint):
    with pytest.raises(RunFileError, match=f"^--seeds .{{0,80}}: .*{complaint}"):
        seeds_of(text, first)


def test_the_seeds_that_a_run_takes():
    assert seeds_of("4294967295,", 0) == [2**32 - 1]
    assert seeds_of("2", 2**32 - 2) == [2**32 - 2, 2**32 - 1]
    # A wrong seed of the run file is reported with the run file.
    assert seeds_of("2", "x") == seeds_of("2", -5) == [0, 1]


GOOD_COMPONENT = {"kind": "loss", "reference": "r", "target": "m:f", "sha256": None, "options": {"a": [1]}}
GOOD = {"versions": {"torch": "1"}, "origin": None, "components": [GOOD_COMPONENT]}
WRONG = {
    "versions": [None, [], {"torch": 1}],
    "components": [None, {}, [1], [{}], [{"kind": "loss"}]],
    "origin": [1, "x", {"vcs_info": 1}, {"url": "u", "dir_info": [1]}],
    "num_processes": ["two"],
}
WRONG_IN_A_COMPONENT = {
    "kind": [None, 1],
    "reference": [1, []],
    "target": [None, {}],
    "options": [None, [1], "x"],
    "origin": [3, {"archive_info": "x"}],
    "package": [1],
    "sha256": [[]],
}


def damaged_plugins():
    for key, values in WRONG.items():
        yield from (json.dumps({**GOOD, key: value}) for value in values)
    for key, values in WRONG_IN_A_COMPONENT.items():
        yield from (json.dumps({**GOOD, "components": [{**GOOD_COMPONENT, key: value}]}) for value in values)
    yield from ("", "null", "[]", "{}", "[" * 100_000, "9" * 5000, "\0")


@pytest.mark.parametrize("text", list(damaged_plugins()))
def test_a_damaged_record_of_the_plugins_is_no_record(tmp_path, text):
    path = tmp_path / "plugins.json"
    path.write_text(json.dumps(GOOD))
    assert read_plugins(path) == GOOD
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^plugins.json (cannot be read|is not the record of a run)"):
        read_plugins(path)
    path.unlink()
    with pytest.raises(ValueError, match="cannot be read: FileNotFoundError"):
        read_plugins(path)
