"""For every test: one thread, imports taken back, and runs that take a second."""

import json
import os
import shutil
import signal
import sys
from textwrap import dedent

import pytest
import torch
from safetensors.torch import load_file

from plugrad import RunFile
from plugrad.registry.local_modules import LOCAL
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of, steps_in
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

# Faster than two for tiny models, and tests can run beside other work; the processes that they start too.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts tests in the background lets them ignore Ctrl-C, and every process that they start would too.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}


@pytest.fixture(autouse=True)
def own_imports(tmp_path):
    """Take back what a test puts on `sys.path`, where it lets modules be found, and what it imports from its own folder."""
    path, folders = list(sys.path), list(LOCAL.folders)
    yield
    sys.path[:], LOCAL.folders[:] = path, folders
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Write a file of Python beside the test; return its path."""

    def write_file(name, code):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code).lstrip())
        return path

    return write_file


@pytest.fixture
def run_file(tmp_path):
    """Make a run file; keyword arguments replace whole tables or keys."""

    lines = [json.dumps({"prompt": f"{i}+{j}=", "reference": str(i + j)}) for i in range(6) for j in range(6)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "rewards.py").write_text("def ones(completion, example):\n    return completion.count('1')\n")

    def make(**tables):
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "search_paths": [str(tmp_path)],
            "max_steps": 3,
            "model": {"from_scratch": TINY},
            "environment": {"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "rewards.py:ones", "num_eval": 8}},
            "rollout": {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4},
            "optimizer": {"lr": 1e-3},
        }
        return RunFile(**{**defaults, **tables})

    return make


@pytest.fixture
def run(run_file):
    """Train such a run file, silently, and return the result."""

    def train_it(**tables):
        return train(run_file(**tables), overwrite=True, display=Silent())

    return train_it


class StoppedRuns:
    """Runs as they were left by a kill, and what they must end as when they go on."""

    of_the_machine = ("seconds", "rollouts_s", "tokens_per_s", "memory_gib")

    def stop_after(self, step, folder, copy):
        """Copy a run as if it had been killed after the checkpoint of `step`, in the middle of a later record."""
        shutil.copytree(folder, copy)
        shutil.rmtree(copy / "model")
        for later in steps_in(copy):
            if later > step:
                shutil.rmtree(folder_of(copy, later))
        first, *_ = (copy / "history.jsonl").read_text().splitlines(keepends=True)
        (copy / "history.jsonl").write_text(first)
        # Its samples are all still there.
        lines = (copy / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["step"] <= step + 1]
        (copy / "metrics.jsonl").write_bytes(b"".join(kept) + kept[-1][:20])

    def records(self, folder):
        """Return the records without what depends on the machine."""
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name not in self.of_the_machine} for line in lines]

    def assert_same(self, found, wanted):
        """Compare the records, the samples, and every weight to the bit."""
        assert self.records(found) == self.records(wanted)
        assert (found / "samples.jsonl").read_text() == (wanted / "samples.jsonl").read_text()
        files = sorted(path.relative_to(wanted) for path in (wanted / "model").rglob("*.safetensors"))
        assert files == sorted(path.relative_to(found) for path in (found / "model").rglob("*.safetensors"))
        for file in files:
            ours, theirs = load_file(found / file), load_file(wanted / file)
            assert ours.keys() == theirs.keys()
            for name, weight in theirs.items():
                assert torch.equal(ours[name], weight), f"{file}: {name}"


@pytest.fixture
def stopped_runs():
    """Make runs that were killed, and compare runs."""
    return StoppedRuns()
