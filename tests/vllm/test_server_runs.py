"""Full runs with their own vLLM servers: the quickstart's second stage, and a server that is killed on the way."""

import os
import shutil
import signal
import threading
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from plugrad import RunFile
from plugrad.rollout.servers import implementation
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

from .trainer import command_of

MODEL = {"model_type": "qwen3", "hidden_size": 64, "head_dim": 32, "num_hidden_layers": 2}
ROLLOUT = {
    "engine": "vllm-server",
    "prompts_per_step": 16,
    "rollouts_per_example": 4,
    "max_new_tokens": 64,
    "parity_every_steps": 1,
    "server": {"num_servers": 2, "kv_cache_gib": 0.25, "concurrency": 4},
}
GAIN = 0.08
"""Gain in held-out accuracy, which 512 sums measure to about 0.02. `plugrad quickstart` trains for more."""


def processes_at(*addresses):
    """Return this process's servers at these addresses; other tests' servers have others."""
    ports = {str(urlsplit(address).port) for address in addresses}
    return [child for child in psutil.Process().children(recursive=True) if not ports.isdisjoint(command_of(child))]


class LosesAServer(ServerEngine):
    """One of its servers is killed in the middle of its third batch."""

    num_prompts = ()
    started_at = ()

    def generate(self, prompts, sampling):
        type(self).started_at = self.addresses
        # Evaluation is off: a call for parity has one completion a prompt.
        if sampling.num_completions > 1:
            type(self).num_prompts = (*self.num_prompts, len(prompts))
        if len(self.num_prompts) == 3 and sampling.num_completions > 1:
            threading.Timer(0.2, self.kill_one).start()
        return super().generate(prompts, sampling)

    def kill_one(self):
        # die_with_parent.py came first; the server has a session of its own, with its worker processes.
        server = max(processes_at(self.addresses[1]), key=psutil.Process.create_time)
        os.killpg(os.getpgid(server.pid), signal.SIGKILL)


def test_a_run_goes_on_when_one_of_its_two_servers_is_killed(run, monkeypatch):
    monkeypatch.setattr(implementation, "ServerEngine", LosesAServer)
    result = run(model={"from_scratch": MODEL}, rollout=ROLLOUT, max_steps=6, optimizer={"lr": 1e-3})
    assert [record["step"] for record in result.records] == [1, 2, 3, 4, 5, 6]
    assert LosesAServer.num_prompts == (16,) * 6, "no batch is requested twice"
    assert all(record["inference_mismatch/parity_max"] < 1e-5 for record in result.records)
    assert all(record["staleness/max"] == 0 for record in result.records)
    assert result.model.exists()
    assert len(LosesAServer.started_at) == 2
    assert not processes_at(*LosesAServer.started_at), "the other one stopped with the run"


def test_two_ranks_sample_ahead_and_wait_for_their_only_server_when_it_is_killed(train_on_two_ranks, tmp_path):
    """It loads new weights while it samples. Killed in the middle, it comes back with them, and nothing is lost."""
    shutil.copy(Path(__file__).parent / "server_killer.py", tmp_path)
    rollout = {**ROLLOUT, "server": {**ROLLOUT["server"], "num_servers": 1}, "max_staleness": 1}
    extension = [{"name": "server_killer.py:KillsTheServer"}]
    tables = {"rollout": rollout, "max_steps": 5, "optimizer": {"lr": 1e-2}, "extension": extension}
    errors, records = train_on_two_ranks(model={"from_scratch": MODEL}, **tables)
    assert "restarting a server (1 of at most 2 times)" in errors
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    assert all(record["inference_mismatch/parity_max"] < 1e-5 for record in records)
    assert 0 < max(record["staleness/max"] for record in records) <= 1
    assert all(0 <= record["staleness/mean"] <= 1 for record in records)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    """The quickstart's first stage."""
    folder = tmp_path_factory.mktemp("quickstart")
    for stage in ("supervised", "reinforce"):
        (folder / f"{stage}.toml").write_text(files("plugrad.runs").joinpath(f"{stage}.toml").read_text())
    first = RunFile.load(folder / "supervised.toml", [f"output_dir='{folder / 'supervised'}'"])
    return folder, train(first, display=Silent()).series("eval/reward")[-1][1]


@pytest.mark.parametrize("engine", ["vllm", "vllm-server"])
def test_the_quickstarts_reinforcement_learns_with_it(supervised, engine):
    folder, begins_at = supervised
    overrides = [f"rollout.engine={engine}", f"output_dir='{folder / engine}'"]
    result = train(
        RunFile.load(folder / "reinforce.toml", [*overrides, f"evaluation.stop_at_reward={begins_at + GAIN}"]),
        display=Silent(),
    )
    assert result.series("eval/reward")[-1][1] >= begins_at + GAIN
    assert result.records[1]["inference_mismatch/parity_max"] < 1e-5
    assert Path(result.model, "config.json").exists()
