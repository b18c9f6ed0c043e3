"""Requests over a network that fails in all the ways of networks and servers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.servers.balancer import Balancer
from plugrad.rollout.servers.client import Client
from plugrad.rollout.servers.event_loop import EventLoopThread
from plugrad.rollout.servers.server import Server, ServerError

from .conftest import LABELS, good_response, make_requests

SLOW_S = 3.0
ONE_COMPLETION = {"sampling_params": {"n": 1}}


def respond_slowly(handler, body):
    time.sleep(SLOW_S)
    handler.answer(good_response(body))


def break_off(handler, body):
    handler.close_connection = True


def truncate(handler, body):
    handler.answer(b'{"choices": [', length=5000)
    handler.close_connection = True


def send_rubbish(handler, body):
    handler.answer(b"<html>Welcome to nginx</html>")


def use_other_weights(handler, body):
    handler.answer(good_response(body, label="other-7"))


def use_weights_of_the_future(handler, body):
    handler.answer(good_response(body, label=LABELS.label_of(7)))


def send_one_too_few(handler, body):
    handler.answer({"choices": good_response(body)["choices"][1:]})


def respond_with(status):
    return lambda handler, body: handler.answer({"error": {"message": f"status {status}"}}, status)


def test_completions_come_in_the_order_of_the_prompts(listen, client_of):
    servers = [listen(lambda h, b: h.answer(good_response(b, tokens=[b["token_ids"][1] + 3, 2]))) for _ in range(2)]
    groups = client_of(*(server.address for server in servers)).ask(7)
    assert [group[0].ids for group in groups] == [[number + 3, 2] for number in range(7)]
    assert [len(group) for group in groups] == [2] * 7
    assert [len(server.bodies) for server in servers] == [4, 3]


@pytest.mark.parametrize(
    "behave",
    [
        respond_slowly,
        break_off,
        truncate,
        send_rubbish,
        use_other_weights,
        use_weights_of_the_future,
        send_one_too_few,
        respond_with(500),
        respond_with(503),
        respond_with(429),
    ],
)
def test_another_server_does_what_one_spoils(behave, listen, client_of):
    bad, good = listen(behave), listen()
    groups = client_of(bad.address, good.address, timeout_s=SLOW_S / 2 if behave is respond_slowly else 20.0).ask(12)
    assert [len(group) for group in groups] == [2] * 12
    completed = [body["token_ids"][1] for body in good.bodies]
    assert sorted(completed) == list(range(12))
    assert bad.bodies


def test_an_unreachable_server_gets_one_request(listen, client_of, dead_address):
    good = listen()
    client = client_of(dead_address, good.address, concurrency=1)
    assert len(client.ask(10)) == 10
    assert [server.is_active for server in client.balancer.servers] == [False, True]


def test_an_error_that_passes_costs_retries(listen, client_of):
    count = iter(range(100))
    server = listen(lambda h, b: respond_with(500)(h, b) if next(count) < 2 else h.answer(good_response(b)))
    assert len(client_of(server.address).ask()) == 1
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        (respond_slowly, "no response within 0.05 s"),
        (send_rubbish, "Welcome to nginx"),
        (respond_with(503), "503: 'status 503'"),
        (use_other_weights, "it is still inactive"),
    ],
)
def test_when_every_attempt_fails_the_error_has_every_servers_last_error(behave, says, listen, client_of):
    server = listen(behave)
    with pytest.raises(EngineError) as raised:
        client_of(server.address, timeout_s=0.05 if behave is respond_slowly else 20.0, retries=1).ask()
    message = str(raised.value)
    assert "2 completions of a prompt of 2 tokens" in message
    assert "failed after 2 attempts" in message
    assert server.address in message
    assert says in message


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_invalid_request_is_not_repeated(status, listen, client_of):
    server = listen(respond_with(status))
    with pytest.raises(EngineError, match=f"rejected a request for 2 completions .* with {status}: 'status {status}'"):
        client_of(server.address).ask()
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_denied_run_learns_which_variable(status, listen, client_of, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-of-mine")
    server = listen(respond_with(status))
    with pytest.raises(EngineError, match="the environment variable MY_KEY holds a different key") as raised:
        client_of(server.address, api_key_env="MY_KEY").ask()
    assert "secret-of-mine" not in str(raised.value)
    monkeypatch.delenv("PLUGRAD_API_KEY", raising=False)
    with pytest.raises(EngineError, match="the environment variable PLUGRAD_API_KEY is not set"):
        client_of(server.address).ask()


def test_concurrency_is_bounded(listen, client_of):
    server = listen(lambda h, b: (time.sleep(0.05), h.answer(good_response(b))))
    client_of(server.address, concurrency=3).ask(20)
    assert server.most_at_once == 3


def test_one_request_that_fails_cancels_the_others(listen, client_of):
    def behave(handler, body):
        if body["token_ids"][1]:
            respond_slowly(handler, body)
        else:
            respond_with(400)(handler, body)

    server, start = listen(behave), time.monotonic()
    with pytest.raises(EngineError, match="rejected"):
        client_of(server.address).ask(4)
    assert time.monotonic() - start < 0.9 * SLOW_S


def test_a_server_that_comes_back_gets_requests_again(listen, client_of):
    server = listen()
    client = client_of(server.address, revive=lambda address, version, may_load: None)
    client.balancer.deactivate(client.balancer.servers[0], "it was away")
    assert len(client.ask()) == 1
    assert client.balancer.servers[0].is_active


def test_while_another_is_active_no_server_loads_weights_between_updates(listen, client_of):
    may_have_loaded = []

    def revive(address, version, may_load):
        may_have_loaded.append(may_load)
        raise ServerError("its weights are 'default'")

    servers = [listen(), listen()]
    client = client_of(*(server.address for server in servers), revive=revive)
    client.balancer.deactivate(client.balancer.servers[0], "restarted")
    client.ask(4)
    assert may_have_loaded == [False]
    assert len(servers[1].bodies) == 4


def test_closing_does_not_wait_for_a_server_that_hangs(listen):
    loop, balancer, is_over = EventLoopThread(), Balancer.of([listen().address, "http://hangs"]), threading.Event()
    client = Client(balancer, LABELS, ServerTable(), {}, revive=lambda *_: is_over.wait(SLOW_S))
    client.version = 0
    balancer.apply_update({balancer.servers[0].address: None, "http://hangs": "it was away"})
    assert len(loop.run(lambda: client.complete(make_requests()))) == 1
    start = time.monotonic()
    loop.close(client.close)
    assert time.monotonic() - start < 0.9 * SLOW_S
    is_over.set()


def test_without_weights_no_request_is_sent(listen, client_of):
    server = listen()
    client = client_of(server.address)
    client.version = None
    with pytest.raises(EngineError, match="before the servers received the policy's weights"):
        client.ask()
    assert not server.bodies


def test_servers_of_this_machine_bypass_a_proxy_in_the_environment(listen, client_of, dead_address, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, dead_address)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = listen()
    assert len(client_of(server.address, retries=0).ask()) == 1
    assert Server(server.address, {}, 5.0).post("/anything", {"token_ids": [0], "cache_salt": "s", **ONE_COMPLETION})


def test_servers_that_claim_weights_which_nobody_sent_end_the_run_with_their_names(listen, client_of):
    servers = [listen(use_weights_of_the_future) for _ in range(2)]
    with pytest.raises(EngineError, match="weights of version 7, and this run has sent none newer than 0") as caught:
        client_of(*(server.address for server in servers), retries=1).ask(1)
    assert all(server.address in str(caught.value) for server in servers)


def test_weights_on_their_way_may_have_sampled_before_every_server_has_them(listen, client_of):
    client = client_of(listen(use_weights_of_the_future).address)
    client.tell(7)
    assert client.version == 0
    assert {version for completion in client.ask(1)[0] for version in completion.policy_versions} == {7}


def test_a_rank_that_is_behind_the_one_that_sends_waits_for_the_news(listen, client_of):
    answered = threading.Event()

    def answer(handler, body):
        use_weights_of_the_future(handler, body)
        answered.set()

    client = client_of(listen(answer).address, may_lag=True, retries=0)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(client.ask, 1)
        answered.wait()
        client.tell(7)
        assert {version for completion in asked.result()[0] for version in completion.policy_versions} == {7}
