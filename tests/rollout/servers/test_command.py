"""The command of a server: every flag that the run depends on, a share of the cores, and never the API key."""

import os

import pytest

from plugrad.config.tables.server_table import ServerTable
from plugrad.rollout.servers import command as command_module
from plugrad.rollout.servers.command import server_commands
from plugrad.rollout.servers.cores import num_cores_left

FLAGS = {"dtype": "bfloat16", "max_model_len": 128}


def commands(addresses, *, is_cpu=True, beside_trainer=False, trust_remote_code=False, **table):
    flags = {**FLAGS, "is_cpu": is_cpu, "beside_trainer": beside_trainer, "trust_remote_code": trust_remote_code}
    return server_commands(addresses, "org/model", ServerTable(**table), **flags)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("PLUGRAD_API_KEY", "VLLM_CPU_OMP_THREADS_BIND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(command_module, "lacks_the_command", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)


def test_the_command_as_typed():
    [command] = commands(["http://10.0.0.1:8001"], is_cpu=False)
    assert str(command) == (
        "VLLM_SERVER_DEV_MODE=1 VLLM_PLUGINS='' vllm serve org/model --host 10.0.0.1 --port 8001 --dtype bfloat16 "
        "--max-model-len 128 --load-format dummy --enable-scale-out "
        "--logprobs-mode processed_logprobs --generation-config vllm --enable-prefix-caching --disable-uvicorn-access-log"
    )


def test_the_package_for_cpus_has_no_command(monkeypatch):
    monkeypatch.setattr(command_module, "lacks_the_command", lambda: True)
    [command] = commands(["http://a:1"])
    assert " python -m vllm.entrypoints.openai.api_server --model org/model --host a " in str(command)


@pytest.mark.parametrize("trust_remote_code", [False, True])
def test_code_of_the_model_runs_in_a_server_where_the_run_file_says_so(trust_remote_code):
    [command] = commands(["http://a:1"], trust_remote_code=trust_remote_code)
    assert ("--trust-remote-code" in command.arguments) == trust_remote_code


def test_arguments_of_the_run_file_come_last_and_win():
    [command] = commands(["http://a:1"], is_cpu=False, args=["--dtype", "float32"], plugins=["p", "q"], weights="ipc")
    assert command.arguments[-2:] == ["--dtype", "float32"]
    assert command.environment["VLLM_PLUGINS"] == "p,q"
    assert command.arguments[-4:-2] == ["--weight-transfer-config", '{"backend": "ipc"}']
    assert command.environment["VLLM_ALLOW_INSECURE_SERIALIZATION"] == "1"


def test_the_memory_for_keys_and_values():
    def kv_cache_bytes(**table):
        arguments = commands(["http://a:1"], **table)[0].arguments
        return arguments[arguments.index("--kv-cache-memory-bytes") + 1] if "--kv-cache-memory-bytes" in arguments else None

    assert kv_cache_bytes() == str(2**30)
    assert kv_cache_bytes(kv_cache_gib=0.5) == str(2**29)
    assert kv_cache_bytes(is_cpu=False) is None


def test_servers_of_one_machine_share_its_cores():
    def cores(*addresses, **table):
        return [command.environment.get("VLLM_CPU_OMP_THREADS_BIND") for command in commands(addresses, **table)]

    assert cores("http://a:1") == [None]
    assert cores("http://a:1", "http://a:2") == ["0,1", "2,3"]
    assert cores("http://a:1", "http://b:1") == [None, None]
    assert cores(*(f"http://a:{port}" for port in range(1, 7))) == ["nobind"] * 6
    assert cores("http://a:1", "http://a:2", args=["--tensor-parallel-size=2"]) == [None, None]
    assert cores("http://a:1", "http://a:2", is_cpu=False) == [None, None]


def test_a_trainer_beside_them_has_half_of_the_cores():
    def cores(*addresses):
        started = commands(addresses, beside_trainer=True)
        environments = [command.environment for command in started]
        return [environment.get("VLLM_CPU_OMP_THREADS_BIND") for environment in environments], num_cores_left(environments)

    assert cores("http://a:1") == (["3,4"], 3)
    assert cores("http://a:1", "http://a:2") == (["3", "4"], 3)
    assert cores("http://a:1", "http://a:2", "http://a:3") == (["0", "1", "2"], 2), "too few: all of them, shared"
    assert cores(*(f"http://a:{port}" for port in range(1, 7))) == (["nobind"] * 6, None)


def test_the_users_own_choice_of_cores_stays(monkeypatch):
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "4")
    [first, _] = commands(["http://a:1", "http://a:2"])
    assert first.full_environment["VLLM_CPU_OMP_THREADS_BIND"] == "4"


def test_the_key_is_in_the_environment_alone(monkeypatch):
    monkeypatch.setenv("PLUGRAD_API_KEY", "secret-of-mine")
    [command] = commands(["http://a:1"])
    assert command.full_environment["VLLM_API_KEY"] == "secret-of-mine"
    assert "secret-of-mine" not in str(command) + repr(command)


def test_a_server_is_not_taken_for_a_rank(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "ACCELERATE_X"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MINE", "kept")
    [command] = commands(["http://a:1"])
    assert command.full_environment["MINE"] == "kept"
    assert not {
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "TORCHELASTIC_RUN_ID",
        "ACCELERATE_X",
    } & set(command.full_environment)
