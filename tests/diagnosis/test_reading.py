"""Records are read while a run goes on, in part if it is long, and what is damaged is said."""

import json
import shutil
import time

import pytest

from plugrad import RunFileError
from plugrad.diagnosis import diagnose
from plugrad.diagnosis.record_reading import read_records


@pytest.fixture(scope="module")
def trained(train_tiny):
    return train_tiny("read", max_steps=2)


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_is_read(folder):
    records = read_records(folder)
    assert records.num_steps == 2
    assert records.setting("optimizer.lr") == 0.01
    assert records.setting("no.such.key") is None
    assert records.plugins["learns_from_rewards"] is True
    assert list(records.series("reward").steps) == [1, 2]
    assert len(records.series("no such number")) == 0
    assert {sample["step"] for sample in records.samples} == {1, 2}


def test_a_line_that_is_being_written_is_left_out(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "rew')
    assert read_records(folder).num_steps == 2
    (folder / "samples.jsonl").write_text('{"step": 1}\n{"step": 2, "comp')
    assert list(read_records(folder).samples) == [{"step": 1}]


def test_a_number_that_no_float_holds_is_none(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(f'{{"step": 3, "reward": {10**400}}}\n')
    records = read_records(folder)
    assert records.num_steps == 3
    assert list(records.series("reward").finite().steps) == [1, 2]


def test_a_run_without_a_step_is_none_that_went_wrong(folder):
    (folder / "metrics.jsonl").unlink()
    assert diagnose(folder) == []


@pytest.mark.parametrize("name", ["run.toml", "plugins.json"])
def test_a_folder_without_a_run_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(RunFileError, match=f"holds no run: it has no {name}"):
        diagnose(folder)


@pytest.mark.parametrize(("name", "text"), [("run.toml", "a = "), ("plugins.json", "[]"), ("metrics.jsonl", "[1]\n")])
def test_a_damaged_file_is_named(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(RunFileError, match=r"cannot be read|is not the record"):
        diagnose(folder)


def test_a_long_run_is_read_in_part_and_no_evaluation_is_missed(folder):
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 5001):
            numbers = {f"metric_{index}/mean": step + index / 7 for index in range(200)}
            skipped = {"skipped_updates": float(step == 1234)}
            evaluated = {"eval/reward": 0.5} if step % 1000 == 0 else {}
            file.write(json.dumps({"step": step, **skipped, **numbers, **evaluated}) + "\n")
    started = time.process_time()
    records = read_records(folder)
    diagnose(folder)
    # Twice; on an idle machine a quarter of it.
    assert time.process_time() - started < 8
    assert records.num_steps == 5000
    assert list(records.series("eval/reward").steps) == [1000, 2000, 3000, 4000, 5000]
    assert list(records.series("metric_7/mean").steps[-2:]) == [4996, 5000]
    assert 1000 <= len(records.series("metric_7/mean")) < 1010
    assert records.series("skipped_updates").values.sum() == 1
