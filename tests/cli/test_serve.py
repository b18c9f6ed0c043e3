"""`plugrad serve`: the commands of a run file's servers, and the errors when none can be started."""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import pytest

RUN = """
[model]
name = "org/model"
[environment]
name = "arithmetic"
[rollout]
engine = "vllm-server"
[rollout.server]
addresses = [{addresses}]
"""


@pytest.fixture
def serve(tmp_path):
    def call(*arguments, addresses="", text=None, **environment):
        (tmp_path / "run.toml").write_text(text or RUN.format(addresses=addresses))
        return subprocess.run(
            [sys.executable, "-m", "plugrad", "serve", "run.toml", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )

    return call


def test_the_commands_are_printed_one_a_line(serve):
    done = serve("--print", addresses='"http://node-1:8000", "http://node-2:8000"', PLUGRAD_API_KEY="secret-of-mine")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" --host ")[1].split(" --dtype")[0] for line in lines] == ["node-1 --port 8000", "node-2 --port 8000"]
    assert all("VLLM_SERVER_DEV_MODE=1" in line and " org/model --host" in line for line in lines)
    assert "secret-of-mine" not in done.stdout
    assert 'VLLM_API_KEY="$PLUGRAD_API_KEY"' in done.stdout


def test_without_addresses_it_chooses_ports(serve):
    done = serve("--print", "--set", "rollout.server.num_servers=2")
    ports = [line.split("--port ")[1].split()[0] for line in done.stdout.splitlines()]
    assert len(set(ports)) == 2


def test_a_model_that_the_run_builds_is_served_by_the_run(serve):
    done = serve("--print", text='[model.from_scratch]\nmodel_type = "qwen3"\n[environment]\nname = "arithmetic"\n')
    assert done.returncode == 2
    assert "Leave rollout.server.addresses empty" in done.stderr


def test_a_model_that_grows_is_served_by_the_run(serve):
    done = serve("--print", "--set", "model.resize_embeddings=true")
    assert done.returncode == 2
    assert "model.resize_embeddings" in done.stderr
    assert "Leave rollout.server.addresses empty" in done.stderr


def test_servers_that_are_elsewhere(serve):
    # From the range reserved for documentation.
    done = serve(addresses='"http://192.0.2.1:8000"')
    assert done.returncode == 2
    assert "none of the servers in rollout.server.addresses (http://192.0.2.1:8000) is on this machine" in done.stderr


def test_a_port_that_is_taken(serve, tmp_path):
    # Stands in for vLLM where it is not installed. Nothing is started with it.
    (tmp_path / "packages" / "vllm").mkdir(parents=True)
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(tmp_path / "packages")])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = serve(addresses=f'"{address}"', PYTHONPATH=path)
    assert done.returncode == 2
    assert f"no server can be started at {address}: Address already in use" in done.stderr


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_error_says_what_to_install(serve):
    done = serve()
    assert done.returncode == 2
    assert 'needs the package vllm, which is not installed: pip install "plugrad[vllm]"' in done.stderr


def test_a_key_that_is_not_set(serve):
    done = serve("--print", "--set", "rollout.server.api_key_env=NOT_SET")
    assert done.returncode == 2
    assert "api_key_env names the environment variable 'NOT_SET', which is not set" in done.stderr
