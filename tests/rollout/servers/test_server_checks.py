"""What a server reports about itself, and what a run makes of it: the responses of vLLM 0.32 with one thing changed."""

from copy import deepcopy

import pytest
import torch

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.servers.server import Server, ServerError
from plugrad.rollout.servers.server_checks import PROBE_TEXT, Requirements, ServerInfo, check_server
from plugrad.testing.models import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
CONFIGURATION = {
    "vllm_config": {
        "model_config": {"logprobs_mode": "processed_logprobs", "dtype": "torch.float32"},
        "weight_transfer_config": None,
    },
    "vllm_env": {"VLLM_PLUGINS": [""]},
}
ROOT = "x" * 5_000_000
SCALE_OUT = "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable them."
RESPONSES = {
    "/health": (200, b""),
    "/version": (200, {"version": "0.32.0"}),
    "/v1/models": (200, {"data": [{"id": "served", "root": "org/model", "max_model_len": 64}]}),
    "/is_paused": (200, {"is_paused": False}),
    "/inference/v1/generate": (400, {"error": {"message": "2 validation errors"}}),
    "/tokenize": (200, {"tokens": TOKENIZER(PROBE_TEXT, add_special_tokens=False)["input_ids"]}),
    "/server_info": (200, CONFIGURATION),
}
MODEL = EngineModel("org/model", tiny_model().config, TOKENIZER, torch.float32, frozenset(), 64)
REQUIRED = Requirements(MODEL, ServerTable())


@pytest.fixture
def check(listen):
    """Check a server with some responses changed."""

    def checked(responses, required=REQUIRED):
        def behave(handler, body):
            status, content = {**RESPONSES, **responses}[handler.path.partition("?")[0]]
            handler.answer(content, status)

        return check_server(Server(listen(behave).address, {}, 5), required)

    return checked


def changed(keys, value):
    configuration = deepcopy(CONFIGURATION)
    table = configuration
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
    return {"/server_info": (200, configuration)}


def test_one_that_is_well(check):
    assert check({}) == ServerInfo(None, ())


def test_what_it_was_started_with_is_found(check):
    assert check(changed(["vllm_config", "weight_transfer_config"], {"backend": "nccl"})) == ServerInfo("nccl", ())
    assert check(changed(["vllm_env", "VLLM_PLUGINS"], ["a", "b"])) == ServerInfo(None, ("a", "b"))


@pytest.mark.parametrize(
    ("responses", "says"),
    [
        ({"/version": (200, {"version": "0.31.2"})}, r"runs vLLM 0\.31\.2, and plugrad needs 0\.32 or newer"),
        (
            {"/is_paused": (404, {"detail": "Not Found"})},
            r"without VLLM_SERVER_DEV_MODE=1\. .*\n    VLLM_SERVER_DEV_MODE=1 ",
        ),
        ({"/inference/v1/generate": (403, {"error": {"message": SCALE_OUT}})}, "started without --enable-scale-out"),
        ({"/health": (503, b"")}, "cannot be used: GET /health returned 503"),
        ({"/v1/models": (401, {"error": "Unauthorized"})}, r"denied this run access: .*401"),
        ({"/v1/models": (200, {"data": []})}, "is not a vLLM server 0.32 or newer"),
        ({"/version": (200, b"<html>")}, "which is not JSON"),
        (
            {"/tokenize": (200, {"tokens": [1, 2]})},
            r"tokenizer of the server .*'org/model'.*it returns the token 1 where",
        ),
        ({"/v1/models": (200, {"data": [{"root": ROOT, "max_model_len": 64}]})}, "serves the model 'xxx"),
        ({"/v1/models": (200, {"data": [{"root": "\0", "max_model_len": 64}]})}, r"serves the model '\\x00'"),
        ({"/version": (200, {"version": f"0.1+{ROOT}"})}, r"runs vLLM 0\.1\+xxx"),
        (changed(["vllm_config", "model_config", "logprobs_mode"], ROOT), "returns xxx"),
        ({"/tokenize": (200, {"tokens": [ROOT]})}, "it returns the token 'xxx"),
        ({"/tokenize": (200, {"tokens": []})}, "it returns 0 tokens where the run's returns"),
        (
            changed(["vllm_config", "model_config", "logprobs_mode"], "raw_logprobs"),
            "returns raw_logprobs: not the log-probs",
        ),
    ],
)
def test_one_that_cannot_be_used(responses, says, check):
    with pytest.raises(EngineError, match=says) as caught:
        check(responses)
    assert len(caught.value.args[0]) < 2000


@pytest.mark.parametrize("version", ["0.32.1.dev3+g1234", "0.33.0", "1.0"])
def test_newer_versions_will_do(version, check):
    check({"/version": (200, {"version": version})})


def test_what_cannot_be_told_is_a_notice(check, caplog):
    check({"/version": (200, {"version": "dev"}), "/tokenize": (404, {"detail": "Not Found"})})
    assert "'dev', and it is unclear whether that is 0.32 or newer" in caplog.text
    assert "no tokenizer to compare" in caplog.text


def test_the_key_is_in_no_message(check, monkeypatch):
    monkeypatch.setenv("PLUGRAD_API_KEY", "secret-of-mine")
    with pytest.raises(EngineError) as raised:
        check({"/is_paused": (404, b"")})
    assert "secret-of-mine" not in str(raised.value)
    assert 'VLLM_API_KEY="$PLUGRAD_API_KEY"' in str(raised.value)


def test_a_server_in_which_every_plugin_runs_is_a_notice(check, caplog):
    assert check(changed(["vllm_env", "VLLM_PLUGINS"], None)) == ServerInfo(None, ("*",))
    assert "was started without VLLM_PLUGINS" in caplog.text


@pytest.mark.parametrize("content", [b"", b"[]", {"detail": "Not Found"}])
def test_weights_without_a_name_are_the_servers_error(listen, content):
    server = listen(lambda handler, body: handler.answer(content))
    with pytest.raises(ServerError, match="returned no weight version"):
        Server(server.address, {}, 5.0).weight_label()
