"""A checkpoint on disk counts if it is whole, and only then."""

import json
import logging

import pytest

from plugrad.trainer.checkpoints.checkpoint_folder import (
    begin,
    best_in,
    folder_of,
    newest_whole,
    prune,
    publish,
    remove_later,
    remove_unfinished,
    steps_in,
    sums_of,
    unfinished_of,
)


@pytest.fixture
def written(tmp_path):
    """Write a checkpoint after a step into a run folder; return its folder."""

    def write(step):
        folder = folder_of(tmp_path, step)
        unfinished = unfinished_of(folder)
        begin(unfinished)
        (unfinished / "policy").mkdir()
        (unfinished / "policy" / "weights").write_bytes(bytes(range(256)) * step)
        (unfinished / "shared.pt").write_bytes(b"shared")
        files = [path for path in unfinished.rglob("*") if path.is_file()]
        publish(unfinished, folder, {"step": step, "num_ranks": 1, "sums": sums_of(unfinished, files)})
        return folder

    return write


def test_the_newest_one_is_found(written, tmp_path):
    for step in (4, 1_000_000, 12):
        written(step)
    assert steps_in(tmp_path) == [1_000_000, 12, 4]
    found = newest_whole(tmp_path)
    assert (found.step, found.num_ranks, found.folder) == (1_000_000, 1, tmp_path / "checkpoints" / "step_1000000")


def test_without_any_there_is_none(tmp_path):
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "nowhere") is None


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_format(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


SPOILED = {
    "a flipped bit": ("policy/weights", flip, "policy/weights has changed since it was written"),
    "cut off": ("policy/weights", lambda path: path.write_bytes(path.read_bytes()[:-1]), "policy/weights has changed"),
    "a file that is gone": ("shared.pt", lambda path: path.unlink(), "shared.pt is missing"),
    "no manifest": ("checkpoint.json", lambda path: path.unlink(), "checkpoint.json"),
    "half a manifest": ("checkpoint.json", lambda path: path.write_bytes(path.read_bytes()[:40]), "checkpoint.json"),
    "another manifest": ("checkpoint.json", lambda path: path.write_text("[]"), "is not that of a checkpoint"),
    "another format": ("checkpoint.json", of_another_format, "it has format 99, and this plugrad reads format 1"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_one_that_is_not_whole_is_passed_over_and_said(written, tmp_path, caplog, how):
    name, spoil, said = SPOILED[how]
    written(4)
    spoil(written(8) / name)
    with caplog.at_level(logging.WARNING, "plugrad"):
        assert newest_whole(tmp_path).step == 4
    assert f"The checkpoint {tmp_path / 'checkpoints' / 'step_000008'} is passed over:" in caplog.text
    assert said in caplog.text


def test_one_that_was_being_written_does_not_count(written, tmp_path):
    written(4).rename(unfinished_of(folder_of(tmp_path, 8)))
    assert newest_whole(tmp_path) is None
    remove_unfinished(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_later_one_of_the_same_step_takes_its_place(written, tmp_path):
    (written(4) / "stale").touch()
    assert not (written(4) / "stale").exists()
    assert newest_whole(tmp_path).step == 4


@pytest.mark.parametrize(
    ("keep", "every", "left"), [(1, 0, [8]), (2, 0, [8, 6]), (1, 4, [8, 4]), (2, 2, [8, 6, 4, 2]), (9, 0, [8, 6, 4, 2, 1])]
)
def test_the_newest_are_kept_and_those_for_ever(written, tmp_path, keep, every, left):
    for step in (1, 2, 4, 6, 8):
        written(step)
    prune(tmp_path, keep, every)
    assert steps_in(tmp_path) == left
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [f"step_{s:06d}" for s in sorted(left)]


def test_the_best_is_kept_besides_and_of_equal_ones_the_first(tmp_path):
    values = {1: 0.1, 2: 0.5, 4: 0.5, 6: None, 8: 0.2}
    for step, value in values.items():
        folder = folder_of(tmp_path, step)
        begin(unfinished_of(folder))
        publish(
            unfinished_of(folder),
            folder,
            {"step": step, "sums": {}, "best": {} if value is None else {"eval/reward": value}},
        )
    assert best_in(tmp_path, "eval/reward") == (0.5, 2)
    assert best_in(tmp_path, "eval/reward", last=1) == (0.1, 1)
    assert best_in(tmp_path, "reward") is best_in(tmp_path, None) is None
    prune(tmp_path, 1, 0, "eval/reward")
    assert steps_in(tmp_path) == [8, 2]


def test_a_run_folder_that_is_gone_is_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        begin(unfinished_of(folder_of(tmp_path / "gone", 4)))
    assert not (tmp_path / "gone").exists()


def test_of_a_symbolic_link_only_the_link_is_removed(written, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for step in (2, 4, 6, 8):
        folder = written(step)
        folder.rename(elsewhere.with_name(f"elsewhere_{step}"))
        folder.symlink_to(tmp_path / f"elsewhere_{step}")
    assert newest_whole(tmp_path).step == 8
    unfinished_of(folder_of(tmp_path, 3)).symlink_to(tmp_path / "elsewhere_2")
    begin(unfinished_of(folder_of(tmp_path, 3)))
    assert not unfinished_of(folder_of(tmp_path, 3)).is_symlink()
    written(8)
    assert not folder_of(tmp_path, 8).is_symlink()
    prune(tmp_path, 2, 0)
    remove_later(tmp_path, 6)
    remove_unfinished(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000006"]
    assert all((tmp_path / f"elsewhere_{step}" / "checkpoint.json").is_file() for step in (2, 4, 6, 8))


def test_going_on_removes_what_comes_later(written, tmp_path):
    for step in (2, 4, 6):
        written(step)
    remove_later(tmp_path, 4)
    assert steps_in(tmp_path) == [4, 2]
