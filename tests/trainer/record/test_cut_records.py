"""The records of a run that goes on are cut back to its checkpoint."""

import json

import pytest

from plugrad import ResumeError
from plugrad.trainer.record.cut_records import keep_first_steps


@pytest.fixture
def records(tmp_path):
    """Write records of these steps, and what follows them; return the file."""

    def write(*steps, then=b""):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(b"".join(json.dumps({"step": step, "loss": 0.5}).encode() + b"\n" for step in steps) + then)
        return path

    return write


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("then", [b"", b'{"step": 5', b"not a record\n"])
def test_later_records_and_a_line_that_was_cut_off_go(records, tmp_path, then):
    path = records(0, 1, 2, 3, 4, then=then)
    keep_first_steps(path, 2)
    assert steps_in(path) == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("line", [b"\0\0\0\n", b"[1]\n", b'{"loss": 1}\n'])
def test_a_spoiled_line_before_the_checkpoint_is_named_and_the_file_left_as_it_is(records, line):
    path = records(1, 2, then=line + b'{"step": 3}\n')
    before = path.read_bytes()
    with pytest.raises(ResumeError, match=r"metrics\.jsonl, line 3 is no record of a step"):
        keep_first_steps(path, 3)
    assert path.read_bytes() == before


def test_missing_records_are_said(records, caplog):
    keep_first_steps(records(1, 2, then=b'{"st'), 4)
    assert "has no record of the steps after 2, up to the checkpoint after step 4" in caplog.text


def test_so_is_a_missing_file(tmp_path, caplog):
    keep_first_steps(tmp_path / "metrics.jsonl", 4)
    assert "has no record of the steps after 0" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_a_file_without_records_of_every_step_may_lack_them_or_be_missing(records, tmp_path, caplog):
    path = records(0, 0, 1, 1, 10, then=b'{"st')
    keep_first_steps(path, 9, has_every_step=False)
    assert steps_in(path) == [0, 0, 1, 1]
    keep_first_steps(tmp_path / "samples.jsonl", 9, has_every_step=False)
    assert not (tmp_path / "samples.jsonl").exists()
    assert not caplog.text
