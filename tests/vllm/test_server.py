"""The engine `vllm-server` with real vLLM servers: its promises, and what it does when servers fail."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
import torch

from plugrad.rollout.engine import Sampling
from plugrad.rollout.servers.server import ServerError
from plugrad.testing import check_engine
from plugrad.testing.engines.engine_trial import largest_mismatch
from plugrad.testing.models import tiny_tokenizer

from . import file_transfer, proxy
from .conftest import KEY_VARIABLE, make_engine, make_model, prompts_of, weights_of

SAMPLING = Sampling(num_completions=4, max_new_tokens=16, temperature=0.7, seed=3)
TOLERANCE = 1e-5


def with_weights(engine, model, version=0):
    engine.update_weights(weights_of(model), version)
    return engine


@pytest.mark.parametrize("which", ["two tied", "untied"])
def test_it_keeps_what_an_engine_promises(which, servers, open_engine):
    model = make_model(tied=which != "untied")
    chosen = servers[2:] if which == "untied" else servers[:2]
    key = {"api_key_env": KEY_VARIABLE} if which == "untied" else {}
    addresses = [server.address for server in chosen]

    def make(model, tokenizer):
        return with_weights(open_engine(model, chosen[0].folder, tokenizer, addresses=addresses, **key), model)

    check_engine(make, model, tiny_tokenizer(), tolerance=TOLERANCE)


@pytest.mark.parametrize("tied", [True, False])
def test_log_probs_are_the_trainers_before_and_after_an_update(tied, servers, open_engine):
    server = servers[0 if tied else 2]
    key = {} if tied else {"api_key_env": KEY_VARIABLE}
    first, second = make_model(0, tied=tied), make_model(1, tied=tied)
    engine = with_weights(open_engine(first, server.folder, addresses=[server.address], **key), first)
    prompts = prompts_of(4)
    before = engine.generate(prompts, SAMPLING)
    engine.update_weights(weights_of(second), 1)
    after = engine.generate(prompts, SAMPLING)
    assert largest_mismatch(prompts, before, first, SAMPLING.temperature) < TOLERANCE
    assert largest_mismatch(prompts, after, second, SAMPLING.temperature) < TOLERANCE
    assert largest_mismatch(prompts, after, first, SAMPLING.temperature) > 100 * TOLERANCE
    assert {version for group in after for c in group for version in c.policy_versions} == {1}


def test_an_update_in_the_middle_aborts_nothing(servers, open_engine):
    """Tokens before it come from the old weights, tokens after it from the new ones, and each has its version."""
    old, new = make_model(0), make_model(5)
    addresses = [server.address for server in servers[:2]]
    # Few requests at a time: much is left to do when the weights change, however late the test notices.
    engine = with_weights(open_engine(old, servers[0].folder, addresses=addresses, concurrency=4), old)
    prompts = prompts_of(16)
    # No completion ends early.
    engine._stops = frozenset()
    sampling = Sampling(num_completions=2, max_new_tokens=400, temperature=1.0, seed=1)
    # A server's first step of each kind takes seconds.
    engine.generate(prompts[:4], replace(sampling, max_new_tokens=8))
    with ThreadPoolExecutor(1) as thread, httpx.Client() as http:
        before = num_generated(http, addresses)
        generated = thread.submit(engine.generate, prompts, sampling)
        while num_generated(http, addresses) < before + 400:
            assert not generated.done()
            time.sleep(0.02)
        engine.update_weights(weights_of(new), 1)
        found = generated.result()
    assert [len(group) for group in found] == [2] * 16
    assert {len(completion.ids) for group in found for completion in group} == {400}
    versions = [completion.policy_versions for group in found for completion in group]
    spans = Counter(version for tokens in versions for version in tokens)
    assert min(spans[0], spans[1]) > 100, spans
    # Requests in flight continued.
    assert any(set(tokens) == {0, 1} for tokens in versions)
    assert all(tokens == sorted(tokens) for tokens in versions)
    for version, model in enumerate([old, new]):
        assert largest_of_version(prompts, found, model, version) < TOLERANCE


def num_generated(http, addresses):
    """Return how many tokens the servers report to have sampled."""
    lines = [line for address in addresses for line in http.get(f"{address}/metrics").text.splitlines()]
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:generation_tokens_total"))


def largest_of_version(prompts, groups, model, version):
    """Return the largest difference from the log-probs of `model`, over the tokens that this version sampled."""
    from plugrad.policy.policy import Policy

    largest = 0.0
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            ids = torch.tensor([[*prompt.ids, *completion.ids]])
            counted = torch.arange(ids.shape[1]).unsqueeze(0) >= len(prompt.ids)
            with torch.no_grad():
                logprobs = Policy(model, 1.0)(ids, torch.ones_like(ids, dtype=torch.bool), counted).logprobs
            difference = (logprobs[counted] - torch.tensor(completion.logprobs)).abs()
            theirs = torch.tensor(completion.policy_versions) == version
            largest = max([largest, *difference[theirs].tolist()])
    return largest


def test_a_server_that_was_restarted_is_left_out_until_the_next_update(servers, open_engine):
    """A restarted server has other weights, and their label is 'default' again."""
    model = make_model()
    addresses = [server.address for server in servers[:2]]
    engine = with_weights(open_engine(model, servers[0].folder, addresses=addresses), model)
    relabel(addresses[0], "default")
    prompts = prompts_of(8)
    groups = engine.generate(prompts, SAMPLING)
    assert largest_mismatch(prompts, groups, model, SAMPLING.temperature) < TOLERANCE
    assert [server.is_active for server in engine._balancer.servers] == [False, True]
    engine.update_weights(weights_of(model), 1)
    assert [server.is_active for server in engine._balancer.servers] == [True, True]


def test_when_no_server_is_left_one_loads_the_weights_again(servers, open_engine, caplog):
    model, other = make_model(), make_model(7)
    address = servers[0].address
    engine = with_weights(open_engine(model, servers[0].folder, addresses=[address]), model)
    # Another run uses the server.
    with_weights(open_engine(other, servers[0].folder, addresses=[address]), other)
    prompts = prompts_of(4)
    groups = engine.generate(prompts, SAMPLING)
    assert largest_mismatch(prompts, groups, model, SAMPLING.temperature) < TOLERANCE
    assert "has loaded this run's again" in caplog.text


def test_a_server_that_cannot_load_reports_it_and_loads_the_next(servers, open_engine, tmp_path):
    model, address = make_model(), servers[0].address
    engine = with_weights(open_engine(model, servers[0].folder, addresses=[address]), model)
    server = engine._servers[address]
    with (
        pytest.raises(ServerError, match=r"could not load the weights in .*/nowhere: .*500: .*must see that folder"),
        server.updating_weights(engine._labels.label_of(1), engine._labels),
    ):
        server.load_weights(tmp_path / "nowhere")
    # It continues, and no token that it samples counts as the policy's.
    assert httpx.get(f"{address}/is_paused").json() == {"is_paused": False}
    assert server.weight_label() == engine._labels.unfinished
    engine.update_weights(weights_of(model), 2)
    prompts = prompts_of(2)
    assert largest_mismatch(prompts, engine.generate(prompts, SAMPLING), model, SAMPLING.temperature) < TOLERANCE


def test_weights_that_two_runs_send_at_once_count_as_neithers(servers, open_engine):
    model, address = make_model(), servers[0].address
    engine = with_weights(open_engine(model, servers[0].folder, addresses=[address]), model)
    server = engine._servers[address]
    with (
        pytest.raises(
            ServerError, match=r"became 'other-unfinished' during the update: another run updates this server too"
        ),
        server.updating_weights(engine._labels.label_of(1), engine._labels),
    ):
        relabel(address, "other-unfinished")
    assert server.weight_label() == "other-unfinished"
    assert httpx.get(f"{address}/is_paused").json() == {"is_paused": False}


def test_an_update_that_one_server_misses_leaves_it_out(servers, open_engine, caplog):
    model, new = make_model(), make_model(3)
    through = proxy.Proxy(servers[0].address, proxy.send_rubbish)
    try:
        engine = open_engine(model, servers[0].folder, addresses=[through.address, servers[1].address])
        with_weights(engine, model)
    finally:
        through.close()
    engine.update_weights(weights_of(new), 1)
    assert f"{through.address} did not load the weights of version 1: no connection" in caplog.text
    prompts = prompts_of(4)
    groups = engine.generate(prompts, SAMPLING)
    assert largest_mismatch(prompts, groups, new, SAMPLING.temperature) < TOLERANCE


@pytest.mark.parametrize("spoil", [proxy.send_rubbish, proxy.truncate, proxy.respond_slowly, proxy.break_off, proxy.fail])
def test_another_server_does_what_the_network_spoils(spoil, servers, open_engine):
    model = make_model()
    spoilt = proxy.Proxy(servers[0].address, spoil)
    try:
        addresses = [spoilt.address, servers[1].address]
        # Long enough for the healthy one on a busy machine, and too short for the slow one.
        timeout_s = proxy.SLOW_S - 1.0 if spoil is proxy.respond_slowly else 60.0
        engine = open_engine(model, servers[0].folder, addresses=addresses, timeout_s=timeout_s, concurrency=8)
        with_weights(engine, model)
        prompts = prompts_of(12)
        groups = engine.generate(prompts, SAMPLING)
    finally:
        spoilt.close()
    assert spoilt.num_spoilt
    assert [len(group) for group in groups] == [SAMPLING.num_completions] * 12
    assert largest_mismatch(prompts, groups, model, SAMPLING.temperature) < TOLERANCE


def test_only_the_newest_weights_stay_on_disk_and_none_after_the_run(servers, open_engine, tmp_path):
    model = make_model()
    engine = with_weights(open_engine(model, servers[0].folder, addresses=[servers[0].address]), model)
    engine.update_weights(weights_of(model), 1)
    engine.update_weights(weights_of(model), 2)
    assert [path.name for path in (tmp_path / "run" / "weights").glob("*/*-v*")] == ["000003-v2"]
    engine.close()
    assert not (tmp_path / "run" / "weights").exists()


def test_vllms_own_weight_transfer_is_driven_as_it_expects(servers, open_engine, tmp_path, monkeypatch):
    """With a backend that moves tensors through a file instead of by NCCL."""
    from plugrad.rollout.servers import device_transfer

    file_transfer.register_sender()
    init = lambda server, rank: file_transfer.FileTrainerInitInfo(str(tmp_path / "weights.safetensors"), rank=rank)  # noqa: E731
    monkeypatch.setitem(device_transfer.INITS, file_transfer.BACKEND, init)
    first, second = make_model(0, tied=False), make_model(1, tied=False)
    engine = open_engine(first, servers[2].folder, addresses=[servers[2].address], api_key_env=KEY_VARIABLE)
    assert engine._server_infos[0].transfer_backend == file_transfer.BACKEND
    assert engine.vllm_plugins == ["plugrad_test_transfer"]
    engine._weight_sync = device_transfer.DeviceWeightSync(
        file_transfer.BACKEND,
        list(engine._servers.values()),
        engine._labels,
        on_main=lambda act: act(),
        is_main=True,
        timeout_s=60,
    )
    prompts = prompts_of(4)
    for version, model in enumerate([first, second]):
        engine.update_weights(weights_of(model), version)
        groups = engine.generate(prompts, SAMPLING)
        assert largest_mismatch(prompts, groups, model, SAMPLING.temperature) < TOLERANCE
        assert {v for group in groups for c in group for v in c.policy_versions} == {version}


def test_every_rank_uses_the_same_servers_and_the_main_one_updates_them(servers, tmp_path):
    first, second = make_model(0), make_model(1)
    addresses = [server.address for server in servers[:2]]
    prompts = prompts_of(6)

    def run_rank(rank, on_main):
        engine = make_engine(first, servers[0].folder, tmp_path, on_main=on_main, is_main=rank == 0, addresses=addresses)
        try:
            groups = []
            for version, model in enumerate([first, second]):
                engine.update_weights(weights_of(model), version)
                groups.append(engine.generate(prompts, replace(SAMPLING, seed=rank)))
            return groups
        finally:
            # No rank leaves before the others have their completions.
            on_main(lambda: None)
            engine.close()

    of_ranks = as_ranks(2, run_rank)
    for version, model in enumerate([first, second]):
        for groups in of_ranks:
            assert largest_mismatch(prompts, groups[version], model, SAMPLING.temperature) < TOLERANCE
            assert {v for group in groups[version] for c in group for v in c.policy_versions} == {version}
    assert of_ranks[0] != of_ranks[1]


def as_ranks(count, run_rank):
    """Run a function as `count` ranks, in threads. `on_main` runs on the first while the others wait."""
    together, shared = threading.Barrier(count, timeout=120), {}

    def on_main_of(rank):
        def on_main(act):
            if rank == 0:
                shared["result"] = act()
            together.wait()
            result = shared["result"]
            together.wait()
            return result

        return on_main

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda rank: run_rank(rank, on_main_of(rank)), range(count)))


def relabel(address, label):
    """Change the label of a server's weights."""
    httpx.post(f"{address}/update_weight_version", json={"new_version": label}).raise_for_status()
