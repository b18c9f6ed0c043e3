"""Runs in several processes, started as a user starts them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.usefixtures("quick_starts")

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
REPLAYED = """
max_steps = 3
updates_per_batch = 2
tokens_per_micro_batch = 40

[model]
dtype = "float64"
[model.from_scratch]
model_type = "qwen3"
hidden_size = 32
num_hidden_layers = 2

[environment]
name = "arithmetic"

[rollout]
engine = "dataset"
prompts_per_step = 8
rollouts_per_example = 3
max_new_tokens = 3

[[loss]]
name = "ppo_clip"
[[loss]]
name = "kl_to_reference"
weight = 0.1
reduction = "sequence"
[[loss]]
name = "entropy_bonus"
weight = 0.1
reduction = "group"

[advantage]
name = "on_ranks.py:varied"

[optimizer]
lr = 1e-3

[[extension]]
name = "on_ranks.py:Who"
"""

# On a machine without an accelerator, what Accelerate calls MULTI_CPU starts one process.
TWO_PROCESSES = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 2\n"


@pytest.fixture
def plugins(folder):
    for name in ("on_ranks.py", "slow_on_the_second.py"):
        shutil.copy(HERE / name, folder / name)
    return folder


@pytest.fixture
def on_one_thread(plugrad_process):
    """Run `python -m plugrad`; each rank computes on one thread."""
    return partial(plugrad_process, timeout=180, OMP_NUM_THREADS="1")


@pytest.fixture
def accelerate(module_process):
    """Run plugrad through Accelerate's launcher, with a configuration."""

    def call(config, *arguments, looks_every_s=0.1):
        options = ("--config_file", str(config), "--monitor_interval", str(looks_every_s))
        launcher = ("accelerate.commands.launch", *options, "-m", "plugrad")
        return module_process(*launcher, *arguments, timeout=180, OMP_NUM_THREADS="1")

    return call


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def processes_left(folder):
    """Return the processes whose working directory is this one."""
    own = [process for process in Path("/proc").iterdir() if process.name.isdigit() and int(process.name) != os.getpid()]
    left = []
    for process in own:
        try:
            if (process / "cwd").resolve() == folder and (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                left.append(process.name)
        except OSError:
            continue
    return left


OF_THE_MACHINE = {"seconds", "rollouts_s", "tokens_per_s", "memory_gib"}


def samples(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def with_tolerance(sample):
    return {**sample, "advantage": pytest.approx(sample["advantage"], rel=1e-9)}


def assert_same_run(found, expected):
    for record, wanted in zip(records(found), records(expected), strict=True):
        assert record.keys() == wanted.keys()
        values = {name: value for name, value in wanted.items() if name not in OF_THE_MACHINE}
        assert {name: record[name] for name in values} == pytest.approx(values, rel=1e-9, abs=1e-12, nan_ok=True)
    theirs = load_file(expected / "model" / "model.safetensors")
    assert samples(found) == [with_tolerance(sample) for sample in samples(expected)]
    ours = load_file(found / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(ours[name], weight, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_one_process_and_two_train_the_same_model(plugins, on_one_thread, accelerate):
    (plugins / "replayed.toml").write_text(REPLAYED)
    config = plugins / "accelerate.yaml"
    config.write_text(TWO_PROCESSES)
    one = on_one_thread("train", "replayed.toml", "--set", "output_dir=one")
    two = on_one_thread("train", "replayed.toml", "--set", "output_dir=two", "--num-processes", "2")
    launched = accelerate(config, "train", "replayed.toml", "--set", "output_dir=launched")
    assert [done.returncode for done in (one, two, launched)] == [0, 0, 0], two.stderr + launched.stderr
    for name, done in (("two", two), ("launched", launched)):
        assert "2 processes" in done.stdout.splitlines()[0]
        assert done.stdout.count("run folder") == 1
        first, second = ((plugins / name / f"rank_{rank}").read_text().split() for rank in range(2))
        assert first[0] != second[0]
        assert first[1] == second[1] == "2"
        assert json.loads((plugins / name / "plugins.json").read_text())["num_processes"] == 2
        assert_same_run(plugins / name, plugins / "one")


FSDP2 = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
num_processes: 2
"""


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="Accelerate shards on accelerators only, and this takes two")
def test_fsdp2_through_accelerates_configuration_trains_the_same_model(plugins, on_one_thread, accelerate):
    (plugins / "replayed.toml").write_text(REPLAYED)
    (plugins / "accelerate.yaml").write_text(FSDP2)
    one = on_one_thread("train", "replayed.toml", "--set", "output_dir=one")
    sharded = accelerate(plugins / "accelerate.yaml", "train", "replayed.toml", "--set", "output_dir=sharded")
    assert [one.returncode, sharded.returncode] == [0, 0], sharded.stderr
    assert_same_run(plugins / "sharded", plugins / "one")


@pytest.mark.slow
def test_an_exception_on_one_rank_ends_all_and_is_shown_first(plugins, on_one_thread):
    started = time.monotonic()
    done = on_one_thread(
        "train", "run.toml", "--num-processes", "2", "--set", "extension=[{name='on_ranks.py:RankOneRaises'}]"
    )
    # Both had to start and train a step first, which takes a while on a busy machine; alone they end in less than 30 s.
    assert time.monotonic() - started < 30 + 90
    assert done.returncode == 1
    told = re.search(r"'RankOneRaises' .* in its before_update raised RuntimeError: rank one is unwell", done.stderr)
    assert told, done.stderr
    assert not re.search(r"rank 0|peer|another rank", done.stderr[: told.start()])
    assert "This is the error of rank 1 of 2, on " in done.stderr
    assert processes_left(plugins) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extension", "how", "why"),
    [
        ("RankOneIsKilled", "was killed by SIGKILL", "memory ran out"),
        ("RankOneCrashes", "was killed by SIGABRT", "compiled code crashed"),
        ("RankOneLeaves", "ended", "with exit code 0 and without an error. A plugin cannot end a run"),
    ],
)
def test_a_rank_that_ends_without_a_word_ends_all_and_is_named(plugins, on_one_thread, extension, how, why):
    done = on_one_thread(
        "train", "run.toml", "--num-processes", "2", "--set", f"extension=[{{name='on_ranks.py:{extension}'}}]"
    )
    assert done.returncode == 1
    called = rf"in a call of the extension '{extension}' \(.*on_ranks.py\)"
    assert re.search(rf"rank 1 \(process \d+\) {how} {called}.*{why}", done.stderr), done.stderr
    assert done.stderr.count("Error:") == 1
    # There is none after a crash in the first step.
    is_saved = extension != "RankOneCrashes"
    assert ("the model as it was after the last step is saved" in done.stderr.lower()) == is_saved
    assert (plugins / "runs" / "run" / "model").exists() == is_saved
    assert processes_left(plugins) == []


@pytest.mark.slow
def test_under_another_launcher_the_other_ranks_name_it(plugins, accelerate, monkeypatch):
    (plugins / "accelerate.yaml").write_text(TWO_PROCESSES)
    (plugins / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(plugins / "temporary"))
    leaves = "extension=[{name='on_ranks.py:RankOneLeaves', kwargs={status=3}}]"
    # The launcher ends the others as soon as it sees that one has ended. They get the time to say so first.
    done = accelerate(plugins / "accelerate.yaml", "train", "run.toml", "--set", leaves, looks_every_s=5)
    assert done.returncode == 1
    called = r"in a call of the extension 'RankOneLeaves' \(.*on_ranks.py\)"
    assert re.search(rf"TrainingError: rank 1 of 2 \(process \d+\) has ended {called}", done.stderr), done.stderr
    assert (plugins / "runs" / "run" / "model").exists()
    assert list((plugins / "temporary").glob("plugrad*")) == []
    assert processes_left(plugins) == []


@pytest.mark.slow
def test_one_signal_lets_all_ranks_finish_the_same_step_and_a_veto_on_one_is_a_veto_on_all(plugins):
    command = [sys.executable, "-m", "plugrad", "train", "run.toml", "--num-processes", "2", "--set", "max_steps=100000"]
    command += ["--set", "extension=[{name='on_ranks.py:RankOneVetoes'}]"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    lines = plugins / "runs" / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while not (lines.exists() and lines.read_text().count("\n") > 1):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("Stopping after this step") == 1
    assert f"Stopped by SIGINT after step {len(records(lines.parent))}." in errors
    assert {record["skipped_updates"] for record in records(lines.parent)} == {1.0}
    assert (lines.parent / "model" / "model.safetensors").exists()
    assert "Traceback" not in errors
    assert processes_left(plugins) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # Its error takes its time to be shown, and the launcher would end the rank.
        (["advantage.name=slow_on_the_second.py:group_mean"], "SlowError: it took a while"),
        (["environment={name='on_ranks.py:OtherExamples'}"], "the environment has other examples on rank 1 of 2, on"),
        (["advantage.name=on_ranks.py:another_option"], r'on_ranks.py:another_option on rank 1.*"scale": 1.0'),
    ],
)
def test_ranks_that_would_not_run_the_same_all_stop(plugins, on_one_thread, overrides, message):
    sets = [argument for override in overrides for argument in ("--set", override)]
    done = on_one_thread("train", "run.toml", "--num-processes", "2", "--traceback", *sets)
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert "rank 1 of 2, on " in done.stderr
    # The only rank that prints it.
    assert done.stderr.count("Traceback (most recent") <= 2
    assert len(re.findall(r"^(?:Plugin|Data)Error:", done.stderr, re.MULTILINE)) <= 2
    assert not (plugins / "runs").exists()
    assert processes_left(plugins) == []


def test_processes_that_cannot_share_the_prompts_are_refused_before_they_start(plugrad, folder):
    done = plugrad("train", "run.toml", "--num-processes", "3")
    assert done.returncode == 2
    assert "Set it to 3 or 6, or train with 2 or 4 processes." in done.stderr


@pytest.mark.slow
def test_another_number_of_processes_than_asked_for_is_refused(plugins, accelerate):
    config = plugins / "accelerate.yaml"
    config.write_text(TWO_PROCESSES)
    done = accelerate(config, "train", "run.toml", "--num-processes", "4")
    assert "--num-processes is 4, but 2 were started." in done.stderr
    assert done.stderr.count("RunFileError") == 1


@pytest.mark.slow
def test_what_every_rank_finds_wrong_is_said_once(plugins, on_one_thread):
    done = on_one_thread("train", "run.toml", "--num-processes", "2", "--set", "loss.name=ppo_clipp")
    assert done.returncode == 2
    assert done.stderr.count("Did you mean 'ppo_clip'") == 1
    assert "rank" not in done.stderr


@pytest.mark.slow
def test_what_is_wrong_with_the_run_folder_is_no_ranks_own_error(plugins, on_one_thread):
    (plugins / "runs" / "run").mkdir(parents=True)
    (plugins / "runs" / "run" / "plugins.json").write_text("{}")
    done = on_one_thread("train", "run.toml", "--num-processes", "2")
    assert done.returncode == 2
    assert done.stderr.count("already holds a run") == 1
    assert "This is the error of" not in done.stderr
