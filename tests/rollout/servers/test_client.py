"""Requests over a network that fails in every way that networks and servers do."""

import time

import pytest

from plugrad.errors import EngineError
from plugrad.rollout.servers.server import Server, ServerError

from .conftest import right_answer

SLOW_S = 3.0
ONE_COMPLETION = {"sampling_params": {"n": 1}}


def slow(handler, body):
    time.sleep(SLOW_S)
    handler.answer(right_answer(body))


def broken_off(handler, body):
    handler.close_connection = True


def truncated(handler, body):
    handler.answer(b'{"choices": [', length=5000)
    handler.close_connection = True


def rubbish(handler, body):
    handler.answer(b"<html>Welcome to nginx</html>")


def of_others(handler, body):
    handler.answer(right_answer(body, label="other-7"))


def one_too_few(handler, body):
    handler.answer({"choices": right_answer(body)["choices"][1:]})


def with_status(status):
    return lambda handler, body: handler.answer({"error": {"message": f"status {status}"}}, status)


def test_answers_come_in_the_order_of_the_prompts(listen, client_of):
    servers = [listen(lambda h, b: h.answer(right_answer(b, tokens=[b["token_ids"][1] + 3, 2]))) for _ in range(2)]
    groups = client_of(*(server.address for server in servers)).ask(7)
    assert [group[0].ids for group in groups] == [[number + 3, 2] for number in range(7)]
    assert [len(group) for group in groups] == [2] * 7
    assert [len(server.bodies) for server in servers] == [4, 3]


@pytest.mark.parametrize(
    "behave",
    [slow, broken_off, truncated, rubbish, of_others, one_too_few, with_status(500), with_status(503), with_status(429)],
)
def test_what_one_server_spoils_another_does(behave, listen, client_of):
    bad, good = listen(behave), listen()
    groups = client_of(bad.address, good.address, timeout_s=SLOW_S / 2 if behave is slow else 20.0).ask(12)
    assert [len(group) for group in groups] == [2] * 12
    asked = [body["token_ids"][1] for body in good.bodies]
    assert sorted(asked) == list(range(12))
    assert bad.bodies


def test_where_nobody_listens_is_asked_once(listen, client_of, nobody):
    good = listen()
    client = client_of(nobody, good.address, concurrency=1)
    assert len(client.ask(10)) == 10
    assert [place.is_in for place in client.rotation.places] == [False, True]


def test_an_error_is_gone_the_next_time(listen, client_of):
    count = iter(range(100))
    server = listen(lambda h, b: with_status(500)(h, b) if next(count) < 2 else h.answer(right_answer(b)))
    assert len(client_of(server.address).ask()) == 1
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("behave", "says"),
    [
        (slow, "has not answered within 0.05 s"),
        (rubbish, "Welcome to nginx"),
        (with_status(503), "503: 'status 503'"),
        (of_others, "it is still out"),
    ],
)
def test_when_nobody_does_better_the_error_says_who_said_what(behave, says, listen, client_of):
    server = listen(behave)
    with pytest.raises(EngineError) as raised:
        client_of(server.address, timeout_s=0.05 if behave is slow else 20.0, retries=1).ask()
    message = str(raised.value)
    assert "2 completions of a prompt of 2 tokens" in message
    assert "tried 2 times" in message
    assert server.address in message
    assert says in message


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_request_that_is_wrong_is_not_repeated(status, listen, client_of):
    server = listen(with_status(status))
    with pytest.raises(EngineError, match=f"refuses a request for 2 completions .* with {status}: 'status {status}'"):
        client_of(server.address).ask()
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_learns_which_variable(status, listen, client_of, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-of-mine")
    server = listen(with_status(status))
    with pytest.raises(EngineError, match="the environment variable MY_KEY has another") as raised:
        client_of(server.address, api_key_env="MY_KEY").ask()
    assert "secret-of-mine" not in str(raised.value)
    monkeypatch.delenv("PLUGRAD_API_KEY", raising=False)
    with pytest.raises(EngineError, match="the environment variable PLUGRAD_API_KEY is not set"):
        client_of(server.address).ask()


def test_concurrency_is_bounded(listen, client_of):
    server = listen(lambda h, b: (time.sleep(0.05), h.answer(right_answer(b))))
    client_of(server.address, concurrency=3).ask(20)
    assert server.most_at_once == 3


def test_one_request_that_fails_ends_the_others(listen, client_of):
    def behave(handler, body):
        if body["token_ids"][1]:
            slow(handler, body)
        else:
            with_status(400)(handler, body)

    server, start = listen(behave), time.monotonic()
    with pytest.raises(EngineError, match="refuses"):
        client_of(server.address).ask(4)
    assert time.monotonic() - start < 0.9 * SLOW_S


def test_a_server_that_comes_back_is_asked_again(listen, client_of):
    server = listen()
    client = client_of(server.address, revive=lambda address, version, may_load: None)
    client.rotation.out(client.rotation.places[0], "it was away")
    assert len(client.ask()) == 1
    assert client.rotation.places[0].is_in


def test_while_another_is_there_no_server_loads_weights_between_updates(listen, client_of):
    asked_to_load = []

    def revive(address, version, may_load):
        asked_to_load.append(may_load)
        raise ServerError("its weights are 'default'")

    servers = [listen(), listen()]
    client = client_of(*(server.address for server in servers), revive=revive)
    client.rotation.out(client.rotation.places[0], "restarted")
    client.ask(4)
    assert asked_to_load == [False]
    assert len(servers[1].bodies) == 4


def test_without_weights_nothing_is_asked(listen, client_of):
    server = listen()
    client = client_of(server.address)
    client.version = None
    with pytest.raises(EngineError, match="before they were given the policy's weights"):
        client.ask()
    assert not server.bodies


def test_a_proxy_in_the_environment_is_not_asked_for_servers_of_this_machine(listen, client_of, nobody, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nobody)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = listen()
    assert len(client_of(server.address, retries=0).ask()) == 1
    assert Server(server.address, {}, 5.0).post("/anything", {"token_ids": [0], "cache_salt": "s", **ONE_COMPLETION})
