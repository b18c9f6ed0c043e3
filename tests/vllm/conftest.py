"""Real vLLM servers for every test here, started once. Without vLLM, no test here is collected."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from plugrad.config.reading import write_run_file
from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.rollout.stops import stop_ids
from plugrad.testing.models import tiny_model, tiny_tokenizer

if find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]

MAX_MODEL_LEN = 512
KEY_VARIABLE = "PLUGRAD_TEST_KEY"
# vLLM computes attention on a CPU for heads of 32 and more.
HEAD_DIM = 32


@dataclass(frozen=True)
class Served:
    """A server and the folder of its model, which has no weights."""

    folder: str
    address: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Three servers, started at once: two of a tied model; one of an untied one, with an API key and our own backend."""
    from plugrad.rollout.servers.command import server_commands
    from plugrad.rollout.servers.supervisor import Supervisor, find_free_addresses

    folder = tmp_path_factory.mktemp("servers")
    tied, untied = save_model(folder / "tied", tied=True), save_model(folder / "untied", tied=False)
    patched = pytest.MonkeyPatch()
    patched.setenv("HF_HUB_OFFLINE", "1")
    patched.setenv(KEY_VARIABLE, "the-key")
    patched.setenv("PYTHONPATH", os.pathsep.join([str(save_plugin(folder / "plugin")), os.environ.get("PYTHONPATH", "")]))
    addresses = find_free_addresses(3)
    plain = ServerTable(kv_cache_gib=0.25)
    guarded = plain.model_copy(
        update={
            "api_key_env": KEY_VARIABLE,
            "plugins": ["plugrad_test_transfer"],
            "args": ["--weight-transfer-config", '{"backend": "plugrad_file"}'],
        }
    )
    flags = {"dtype": "float32", "max_model_len": MAX_MODEL_LEN, "is_cpu": True}
    commands = server_commands(addresses[:2], tied, plain, **flags) + server_commands(
        addresses[2:], untied, guarded, **flags
    )
    supervisor = Supervisor(commands, folder / "logs")
    try:
        supervisor.wait_until_healthy(300)
        yield [Served(tied, addresses[0]), Served(tied, addresses[1]), Served(untied, addresses[2])]
    finally:
        supervisor.close()
        patched.undo()


def save_model(folder, *, tied):
    model = make_model(tied=tied)
    model.config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def make_model(seed=0, *, tied=True):
    """Return a model that a server can serve."""
    model = tiny_model(seed, head_dim=HEAD_DIM, tie_word_embeddings=tied)
    model.config.architectures = [type(model).__name__]
    return model


def save_plugin(folder):
    """Write the files of an installed package with a vLLM plugin."""
    about = folder / "plugrad_test_transfer-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugrad-test-transfer\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vllm.general_plugins]\nplugrad_test_transfer = file_transfer:register\n")
    shutil.copy(Path(__file__).parent / "file_transfer.py", folder)
    return folder


@pytest.fixture
def open_engine(tmp_path):
    """Open engines as a run does, and close them at the end."""
    engines = []

    def make(model, name, tokenizer=None, **options):
        engines.append(make_engine(model, name, tmp_path / "run", tokenizer, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def train_on_two_ranks(run_file, tmp_path):
    """Train with `plugrad train --num-processes 2` in tmp_path. Return what it printed to stderr, and its records."""

    def train_it(**tables):
        write_run_file(run_file(**tables), tmp_path / "run.toml")
        done = subprocess.run(
            [sys.executable, "-m", "plugrad", "train", "run.toml", "--num-processes", "2"],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        return done.stderr, [json.loads(line) for line in lines]

    return train_it


def make_engine(
    model,
    name,
    folder,
    tokenizer=None,
    *,
    max_model_len=MAX_MODEL_LEN,
    on_main=lambda act: act(),
    is_main=True,
    **table,
):
    tokenizer = tokenizer or tiny_tokenizer()
    return ServerEngine(
        ServerTable(**table),
        EngineModel(name, model.config, tokenizer, torch.float32, stop_ids(model, tokenizer), max_model_len),
        folder=folder,
        on_main=on_main,
        is_main=is_main,
    )


def weights_of(model):
    """Return a model's weights as a run sends them: tied ones under both names."""
    return [(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()]


def prompts_of(count):
    examples = [{"example_id": number, "prompt": f"{number}+{number}="} for number in range(count)]
    return tokenize_prompts(examples, tiny_tokenizer(), room=None)
