"""Which server gets the next request, and which gets none."""

from plugrad.rollout.servers.balancer import Balancer


def make_balancer(*active, inactive=()):
    balancer = Balancer.of([*active, *inactive])
    balancer.apply_update({**dict.fromkeys(active), **dict.fromkeys(inactive, "it is away")})
    return balancer


def test_no_server_is_picked_before_the_first_weights():
    assert Balancer.of(["a"]).pick(()) is None


def test_the_server_with_the_fewest_requests_is_picked():
    balancer = make_balancer("a", "b", "c")
    for server, load in zip(balancer.servers, [2, 1, 3], strict=True):
        server.num_in_flight = load
    assert balancer.pick(()).address == "b"


def test_a_server_that_failed_is_picked_again_only_if_there_is_no_other():
    balancer = make_balancer("a", "b")
    balancer.servers[1].num_in_flight = 9
    assert balancer.pick({"a"}).address == "b"
    balancer.deactivate(balancer.servers[1], "gone")
    assert balancer.pick({"a"}).address == "a"


def test_three_failures_in_a_row_are_too_many():
    balancer = make_balancer("a")
    [server] = balancer.servers
    for _ in range(2):
        balancer.record_failure(server, "slow")
    balancer.record_success(server)
    for _ in range(2):
        balancer.record_failure(server, "slow")
    assert server.is_active
    balancer.record_failure(server, "slow")
    assert not server.is_active
    balancer.activate(server)
    balancer.record_failure(server, "slow")
    assert server.is_active


def test_an_update_decides_which_servers_are_active():
    balancer = make_balancer("a", inactive=["b"])
    balancer.apply_update({"a": "no room", "b": None})
    assert [server.address for server in balancer.active] == ["b"]
    assert str(balancer.all_failed("why")) == "why\n    a: no room\n    b: it is away"


def test_when_none_is_left_the_error_has_every_servers_last_error_and_where_to_look():
    balancer = Balancer.of(["a", "b"], lambda: "\nthe end of its log")
    balancer.deactivate(balancer.servers[0], "gone")
    error = str(balancer.all_failed("no server:"))
    assert error == "no server:\n    a: gone\n    b: it has not received any weights yet\nthe end of its log"
