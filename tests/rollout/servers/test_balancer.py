"""Who is asked next, and who is not asked any more."""

from plugrad.rollout.servers.balancer import Rotation


def rotation(*inside, outside=()):
    made = Rotation.of([*inside, *outside])
    made.after_update({**dict.fromkeys(inside), **dict.fromkeys(outside, "it is away")})
    return made


def test_nobody_is_asked_before_the_first_weights():
    assert Rotation.of(["a"]).pick(()) is None


def test_whoever_has_least_to_do_is_asked():
    servers = rotation("a", "b", "c")
    for place, load in zip(servers.places, [2, 1, 3], strict=True):
        place.num_in_flight = load
    assert servers.pick(()).address == "b"


def test_whoever_failed_is_asked_again_only_if_nobody_else_is_there():
    servers = rotation("a", "b")
    servers.places[1].num_in_flight = 9
    assert servers.pick({"a"}).address == "b"
    servers.out(servers.places[1], "gone")
    assert servers.pick({"a"}).address == "a"


def test_three_failures_in_a_row_are_too_many():
    servers = rotation("a")
    [place] = servers.places
    for _ in range(2):
        servers.failed(place, "slow")
    servers.succeeded(place)
    for _ in range(2):
        servers.failed(place, "slow")
    assert place.is_in
    servers.failed(place, "slow")
    assert not place.is_in
    servers.back(place)
    servers.failed(place, "slow")
    assert place.is_in


def test_an_update_says_who_is_in():
    servers = rotation("a", outside=["b"])
    servers.after_update({"a": "no room", "b": None})
    assert [place.address for place in servers.inside] == ["b"]
    assert str(servers.nobody_answers("why")) == "why\n    a: no room\n    b: it is away"


def test_when_nobody_is_left_it_says_who_said_what_and_where_more_is_found():
    servers = Rotation.of(["a", "b"], lambda: "\nits log ends so")
    servers.out(servers.places[0], "gone")
    said = str(servers.nobody_answers("nobody:"))
    assert said == "nobody:\n    a: gone\n    b: it has not been given weights yet\nits log ends so"
