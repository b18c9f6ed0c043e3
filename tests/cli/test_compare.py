"""`plugrad compare`, as a user runs it: real runs in separate processes."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count

import pytest
from typer.testing import CliRunner

from plugrad.cli.main import app

MINE = """
import os
import signal
import zlib
from pathlib import Path

from plugrad import LossInputs, LossOutputs


FAILED = Path(__file__).with_name("failed")
FAILED_BEFORE = FAILED.exists()


def mine(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages.clamp(min=0) * inputs.loss_mask).sum())


def fails(inputs: LossInputs) -> LossOutputs:
    # Not in the pre-flight, which is of one step.
    if inputs.max_steps == 1 or inputs.step == 0 or FAILED.with_name("mended").exists():
        return mine(inputs)
    if FAILED_BEFORE:
        os.kill(os.getpid(), signal.SIGKILL)
    FAILED.touch()
    raise ZeroDivisionError("nothing to divide by")


class Sums:
    def train_examples(self):
        return [{"prompt": f"{i}+{j}=", "reference": str(i + j)} for i in range(10) for j in range(10)]

    def eval_examples(self):
        return [{"prompt": "1+1=", "reference": "2"}]

    def score(self, rollouts):
        for rollout in rollouts:
            rollout["metrics"]["prompt"] = zlib.crc32(rollout["prompt"].encode())
            rollout["metrics"]["completion"] = zlib.crc32(rollout["completion"].encode())
        return [float("1" in rollout["completion"]) for rollout in rollouts]
"""
RUN_FILE = """
max_steps = 2
[model.from_scratch]
model_type = "qwen3"
hidden_size = 32
num_hidden_layers = 2
[environment]
name = "mine.py:Sums"
[rollout]
prompts_per_step = 4
rollouts_per_example = 4
max_new_tokens = 4
[optimizer]
lr = 1e-2
[loss]
name = "importance_sampling"
kwargs = { kl_tau = 0.5 }
"""
pytestmark = pytest.mark.usefixtures("quick_starts")

LOSSES = "loss.name=importance_sampling,./mine.py:mine,./mine.py:fails"
OUT = "runs/compare-run"


def records(folder, arm, seed):
    return [json.loads(line) for line in (folder / OUT / arm / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()]


def numbers(folder):
    return json.loads((folder / OUT / "comparison.json").read_text())


def outcomes(folder):
    """Return when each run's outcome was written."""
    return {
        str(path.parent.relative_to(folder / OUT)): path.stat().st_mtime_ns
        for path in folder.glob(f"{OUT}/*/*/outcome.json")
    }


def write_files(folder):
    (folder / "mine.py").write_text(MINE)
    (folder / "run.toml").write_text(RUN_FILE)


def compare(*arguments):
    return CliRunner().invoke(app, ["compare", "run.toml", *arguments])


@pytest.fixture
def mine(folder):
    """A folder with a run file, two losses and an environment of the user's own."""
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory, quick_starts):
    """Three losses at two seeds, of which the third raises at one seed and is killed at the other."""
    folder = tmp_path_factory.mktemp("compared")
    write_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, compare("--vary", LOSSES, "--seeds", "2")


@pytest.fixture
def compared(first, monkeypatch):
    """The same, in its folder."""
    monkeypatch.chdir(first[0])
    return first


@pytest.mark.slow
def test_an_arm_that_fails_does_not_cost_the_others(compared):
    folder, done = compared
    assert done.exit_code == 1, done.output
    arms = numbers(folder)["arms"]
    for arm in ("importance_sampling", "mine"):
        assert [run["outcome"]["exit_code"] for run in arms[arm]["runs"].values()] == [0, 0]
        assert (folder / OUT / arm / "seed-1" / "model" / "config.json").is_file()
    raised, killed = (run["outcome"] for run in arms["fails"]["runs"].values())
    assert (raised["exit_code"], raised["num_steps"]) == (1, 1)
    assert "raised ZeroDivisionError: nothing to divide by" in raised["error"]
    assert killed["exit_code"] == -signal.SIGKILL
    assert killed["error"].startswith("ended by SIGKILL")
    assert "fails, seed 0: failed after step 1: ContractError: the loss 'fails'" in done.stdout
    assert f"its output: {folder / OUT / 'fails' / 'seed-0' / 'log.txt'}" in done.stdout
    assert ", in fails" in (folder / OUT / "fails" / "seed-0" / "log.txt").read_text()


@pytest.mark.slow
def test_every_arm_sees_the_same_prompts_and_starts_from_the_same_model_at_a_seed(compared):
    folder, _ = compared
    prompts = {
        (arm, seed): [record["environment/prompt"] for record in records(folder, arm, seed)]
        for arm in ("importance_sampling", "mine")
        for seed in (0, 1)
    }
    assert prompts["importance_sampling", 0] == prompts["mine", 0]
    assert prompts["importance_sampling", 1] == prompts["mine", 1]
    assert prompts["mine", 0] != prompts["mine", 1]
    ours, theirs = (records(folder, arm, 0) for arm in ("importance_sampling", "mine"))
    # The same weights sample the same completions; after the first update they are not the same.
    for name in ("environment/completion", "reward", "entropy/mean"):
        assert ours[0][name] == theirs[0][name]
    assert ours[1]["entropy/mean"] != theirs[1]["entropy/mean"]


@pytest.mark.slow
def test_the_table_holds_the_numbers_of_the_records(compared):
    folder, done = compared
    rewards = {arm: [records(folder, arm, seed)[-1]["reward"] for seed in (0, 1)] for arm in ("importance_sampling", "mine")}
    arms = numbers(folder)["arms"]
    for arm, (first_seed, second_seed) in rewards.items():
        found = arms[arm]["over_seeds"]["reward"]
        assert found["value"] == pytest.approx((first_seed + second_seed) / 2)
        assert found["spread"] == pytest.approx(abs(first_seed - second_seed) / 2**0.5)
        low, high = sorted((first_seed, second_seed))
        assert f"{found['value']:.3f} [{low:.3f}..{high:.3f}]" in done.stdout
    difference = arms["mine"]["less_the_baseline"]["reward"]
    expected = sum(rewards["mine"]) / 2 - sum(rewards["importance_sampling"]) / 2
    assert difference["value"] == pytest.approx(expected)
    assert 0.1 < arms["mine"]["over_seeds"]["memory_gib"]["value"] < 4
    assert "0 of 2" in (folder / OUT / "table.md").read_text()
    assert ">importance_sampling<" in (folder / OUT / "curves.svg").read_text()


@pytest.mark.slow
def test_into_a_pipe_go_plain_lines_and_the_options_left_out_are_told(compared):
    _, done = compared
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert (
        lines[0]
        == "comparing importance_sampling, mine, fails in run.toml: 6 runs, seeds 0, 1, baseline importance_sampling"
    )
    assert any(line.startswith("[1/6] importance_sampling, seed 0: done, 2 steps, reward ") for line in lines)
    assert "The kwargs of [loss] belong to 'importance_sampling' and do not apply to: mine, fails." in done.stderr


@pytest.mark.slow
def test_the_same_command_again_runs_what_failed_and_nothing_else(compared):
    folder, _ = compared
    before = outcomes(folder)
    (folder / "mended").touch()
    done = compare("--vary", LOSSES, "--seeds", "0,1")
    assert done.exit_code == 0, done.output
    assert "4 already done" in done.stdout
    after = outcomes(folder)
    assert {name for name in after if after[name] != before[name]} == {"fails/seed-0", "fails/seed-1"}
    fewer = compare("--vary", LOSSES.rpartition(",")[0], "--seeds", "2")
    assert fewer.exit_code == 0, fewer.output
    assert outcomes(folder) == after
    assert "Kept but not shown, because this command does not name them: fails." in fewer.stderr
    assert set(numbers(folder)["arms"]) == {"importance_sampling", "mine", "fails"}
    (folder / "mine.py").write_text(MINE + "# changed\n")
    edited = compare("--vary", "loss.name=./mine.py:mine", "--seeds", "2")
    assert edited.exit_code == 2
    assert "the loss mine.py:mine has changed" in edited.stderr
    assert "Use --rerun mine to run this arm again" in edited.stderr
    assert outcomes(folder) == after


def test_every_arm_that_cannot_be_run_is_told_before_the_first_is(mine):
    done = compare(
        "--vary", "loss.name=ppo_clip,gpso,./mine.py:main", "--arm", "wide: loss.name=ppo_clip loss.kwargs.clip=1"
    )
    assert done.exit_code == 2
    assert "3 of 4 arms cannot be run, and nothing was started:" in done.stderr
    for complaint in (
        "    gpso: PluginError: no loss is called 'gpso'.",
        "    main: PluginError: ",
        "    wide: OptionError: [loss] 'ppo_clip' (plugrad 0.1.0) has no option 'clip'.",
    ):
        assert complaint in done.stderr
    assert not (mine / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--vary", "loss.name"], "write --vary table.key=VALUE,VALUE"),
        (["--vary", "loss.name=ppo_clip", "--baseline", "gspo"], "--baseline 'gspo': no arm has that name."),
        (["--vary", "loss.name=ppo_clip", "--rerun", "gspo"], "--rerun 'gspo': no arm has that name."),
        (["--seeds", "0"], "--seeds '0': write how many"),
        (["--seeds", "1,1"], "--seeds '1,1': write how many"),
        (["--seeds", "many"], "--seeds 'many': write how many"),
        (["--set", "seed='x'", "--seeds", "2"], "seed: Input should be a valid integer. It is 'x'."),
        (["--set", "los=1"], "a run file has no key 'los'"),
    ],
)
def test_bad_input_is_an_error_and_exit_code_2(mine, arguments, complaint):
    done = compare(*arguments)
    assert done.exit_code == 2, done.output
    assert complaint in done.stderr
    assert not (mine / "runs").exists()


def test_two_ways_to_write_one_arm_are_one_arm_too_many(mine):
    done = compare("--vary", "loss.name=ppo_clip,plugrad/ppo_clip")
    assert done.exit_code == 2
    assert "the arms 'ppo_clip' and 'plugrad/ppo_clip' are the same run" in done.stderr


def test_a_folder_that_is_no_comparison_is_not_touched(mine):
    (mine / "notes").mkdir()
    (mine / "notes" / "mine.txt").write_text("keep")
    done = compare("--output-dir", "notes", "--overwrite")
    assert done.exit_code == 2
    assert "holds mine.txt but no comparison.json, so it is not a comparison" in done.stderr
    assert (mine / "notes" / "mine.txt").read_text() == "keep"


@pytest.fixture
def start():
    """Start comparisons; one that is still there at the end of the test is ended."""
    started = []
    yield lambda *arguments: started.append(popen(*arguments)) or started[-1]
    for process in started:
        # SIGTERM, so that it ends its run too.
        process.terminate()
        process.communicate(timeout=60)


def popen(*arguments):
    command = [
        sys.executable,
        "-m",
        "plugrad",
        "compare",
        "run.toml",
        "--vary",
        "loss.name=importance_sampling,./mine.py:mine",
    ]
    return subprocess.Popen(
        [*command, "--seeds", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        # Whoever runs the tests in the background has it ignored, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def wait_for(process, path):
    for _ in count():
        if path.exists() and path.read_text():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(mine, start):
    long = ["--set", "max_steps=100000"]
    process = start("--arm", "quick: max_steps=2", "--seeds", "3,", "--baseline", "quick", *long)
    half = mine / OUT / "importance_sampling" / "seed-3"
    wait_for(process, half / "metrics.jsonl")
    beside = compare("--output-dir", OUT, "--seeds", "3,")
    assert beside.exit_code == 2
    assert f"another comparison is running in {mine / OUT} (process {process.pid})" in beside.stderr
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted. Run the same command again to continue." in printed
    assert "Traceback" not in errors
    # The run was ended with it, and is not taken for a finished one.
    length = (half / "metrics.jsonl").stat().st_size
    time.sleep(1)
    assert (half / "metrics.jsonl").stat().st_size == length
    assert not (half / "outcome.json").exists()
    shorter = ("--vary", "loss.name=importance_sampling", "--seeds", "3,")
    refused = compare(*shorter)
    assert refused.exit_code == 2
    assert "max_steps was 100000 and is 2. Use --rerun importance_sampling" in refused.stderr
    again = compare(*shorter, "--rerun", "importance_sampling")
    assert again.exit_code == 0, again.output
    assert [run["outcome"]["num_steps"] for run in numbers(mine)["arms"]["importance_sampling"]["runs"].values()] == [2]


def test_what_the_command_itself_imports_is_light():
    """The comparison lives as long as all of its runs, beside them: what it holds in memory they have not."""
    code = (
        "import sys; import plugrad.compare.comparison, plugrad.compare.picture, plugrad.compare.report; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "accelerate", "matplotlib"}.isdisjoint(done.stdout.split())
