"""What a run file writes for a component, and what keeps it from being used."""

import pytest

from plugrad.registry.resolve import resolve
from plugrad.registry.scan import scan
from plugrad.registry.status import statuses_of

ZIGZAG = {"plugrad.losses": {"zigzag": "alice:zigzag"}}


def status_of(package, name="zigzag"):
    (found,) = [each for each in statuses_of(scan()) if (each.entry.package, each.entry.name) == (package, name)]
    return found


def test_every_reference_means_its_component(install):
    install("plugrad-alice", {"plugrad.losses": {"zigzag": "alice:zigzag", "ppo_clip": "alice:zigzag", "own": "alice:own"}})
    install("plugrad-bob", {"plugrad.losses": {"zigzag": "bob:zigzag"}})
    catalogue = scan()
    found = statuses_of(catalogue)
    assert {each.entry for each in found} == set(catalogue.entries)
    for each in found:
        assert resolve(each.entry.kind, each.reference, catalogue).entry == each.entry


def test_a_name_is_enough_where_nobody_else_has_it(install):
    install("plugrad-alice", ZIGZAG)
    assert (status_of("plugrad-alice").reference, status_of("plugrad-alice").note) == ("zigzag", None)


def test_a_name_that_another_package_has_needs_the_package(install):
    install("plugrad-alice", ZIGZAG)
    install("plugrad-bob", {"plugrad.losses": {"zigzag": "bob:zigzag"}})
    found = status_of("plugrad-bob")
    assert found.reference == "plugrad-bob/zigzag"
    assert [rival.package for rival in found.rivals] == ["plugrad-alice"]
    assert found.note == 'plugrad-alice offers this name too: write "plugrad-bob/zigzag"'


def test_cores_name_stays_cores(install):
    install("plugrad-alice", {"plugrad.losses": {"ppo_clip": "alice:zigzag"}})
    assert (status_of("plugrad", "ppo_clip").reference, status_of("plugrad", "ppo_clip").note) == ("ppo_clip", None)
    assert status_of("plugrad-alice", "ppo_clip").note == 'core offers this name too: write "plugrad-alice/ppo_clip"'


@pytest.mark.parametrize(
    ("name", "requires", "problem"),
    [
        ("zigzag", ["plugrad>=7"], "requires plugrad>=7, and this is plugrad 0."),
        ("zig/zag", [], "no run file can write this name"),
        ("zigzag.py", [], "no run file can write this name"),
    ],
)
def test_what_cannot_be_used_has_no_reference(install, name, requires, problem):
    install("plugrad-alice", {"plugrad.losses": {name: "alice:zigzag"}}, requires=requires)
    found = status_of("plugrad-alice", name)
    assert found.reference is None
    assert found.note.startswith(f"cannot be used: {problem}")


def test_what_is_installed_twice_in_one_folder_cannot_be_used(install):
    for version in ("1.0", "2.0"):
        install("plugrad-alice", ZIGZAG, version=version)
    assert status_of("plugrad-alice").problem == "plugrad-alice is installed twice in one folder"
