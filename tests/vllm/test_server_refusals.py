"""Servers that a run cannot use are rejected before its first rollout, with what is required and what was found."""

from __future__ import annotations

import logging
import string

import pytest
import torch

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.servers.reachability import check_reachable
from plugrad.rollout.servers.server import Server
from plugrad.rollout.servers.server_checks import Requirements, check_server
from plugrad.testing.models import tiny_tokenizer

from .conftest import MAX_MODEL_LEN, make_model, weights_of


def test_another_model_is_rejected_with_both_names(servers, open_engine):
    with pytest.raises(
        EngineError, match=rf"serves the model '{servers[0].folder}', and this run trains 'Qwen/Qwen3-0\.6B'"
    ):
        open_engine(make_model(), "Qwen/Qwen3-0.6B", addresses=[servers[0].address])


def test_the_same_folder_by_another_path_is_the_same_model(servers, open_engine, tmp_path):
    (tmp_path / "link").symlink_to(servers[0].folder)
    open_engine(make_model(), str(tmp_path / "link"), addresses=[servers[0].address])


def test_a_model_from_scratch_is_compared_by_its_shape(servers, open_engine):
    open_engine(make_model(), None, addresses=[servers[0].address])
    model = make_model()
    model.config.num_hidden_layers = 5
    with pytest.raises(EngineError, match=r"whose num_hidden_layers is 2; this run's model .* has 5"):
        open_engine(model, None, addresses=[servers[0].address])


def test_another_tokenizer_is_rejected_with_both_names(servers, open_engine):
    tokenizer = character_tokenizer([string.printable.replace("T", "")])
    with pytest.raises(
        EngineError, match=rf"model '{servers[0].folder}'.* is not this run's .*model '{servers[0].folder}'.*token"
    ):
        open_engine(make_model(), servers[0].folder, tokenizer, addresses=[servers[0].address])


def test_sequences_that_do_not_fit_are_rejected_with_both_numbers(servers, open_engine):
    with pytest.raises(EngineError, match=rf"sequences of {MAX_MODEL_LEN} tokens, and this run's have up to 513"):
        open_engine(make_model(), servers[0].folder, addresses=[servers[0].address], max_model_len=513)


def test_a_key_is_asked_for_by_the_name_of_its_variable(servers, open_engine, monkeypatch):
    model, server = make_model(tied=False), servers[2]
    monkeypatch.delenv("PLUGRAD_API_KEY", raising=False)
    with pytest.raises(EngineError, match=r"denied this run access: .*401.* variable PLUGRAD_API_KEY is not set"):
        open_engine(model, server.folder, addresses=[server.address])
    monkeypatch.setenv("PLUGRAD_API_KEY", "a-wrong-key")
    with pytest.raises(EngineError, match="variable PLUGRAD_API_KEY holds a different key") as raised:
        open_engine(model, server.folder, addresses=[server.address])
    assert "a-wrong-key" not in str(raised.value)
    with pytest.raises(EngineError, match="api_key_env names the environment variable 'NOT_SET', which is not set"):
        open_engine(model, server.folder, addresses=[server.address], api_key_env="NOT_SET")
    monkeypatch.setenv("PLUGRAD_API_KEY", "the-key")
    open_engine(model, server.folder, addresses=[server.address]).update_weights(weights_of(model), 0)


def test_an_unreachable_server_is_an_error_at_once_with_the_command_to_start_it(open_engine, servers):
    with pytest.raises(
        EngineError, match=r"http://127.0.0.1:1 cannot be used: no connection .*plugrad serve.*\n.*--port 1 "
    ):
        open_engine(make_model(), servers[0].folder, addresses=[servers[0].address, "http://127.0.0.1:1"])


def test_servers_that_do_not_respond_are_named_and_one_with_a_key_responds(servers):
    table = ServerTable(addresses=[server.address for server in servers])
    check_reachable(table, servers[0].folder)
    with pytest.raises(EngineError, match=r"can be used:\n    http://127.0.0.1:1: no connection [^\n]*\n`plugrad serve`"):
        check_reachable(table.model_copy(update={"addresses": [*table.addresses, "http://127.0.0.1:1"]}), servers[0].folder)


@pytest.mark.parametrize("weights", ["nccl", "ipc"])
def test_a_transfer_between_devices_needs_them(weights, servers, open_engine):
    with pytest.raises(EngineError, match=f'weights = "{weights}" needs a CUDA device'):
        open_engine(make_model(), servers[0].folder, addresses=[servers[0].address], weights=weights)


def test_another_dtype_is_a_notice(servers, open_engine, caplog):
    caplog.set_level(logging.WARNING)
    model = EngineModel(servers[0].folder, make_model().config, tiny_tokenizer(), torch.bfloat16, frozenset(), 16)
    required = Requirements(model, ServerTable())
    check_server(Server(servers[0].address, {}, 60), required)
    assert "computes in float32, and this run in bfloat16" in caplog.text
