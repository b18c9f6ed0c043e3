"""`plugins.disable`: taken out of the catalogue, and never imported."""

import logging

import pytest

from plugrad.errors import PluginError, RunFileError
from plugrad.registry.disable import without
from plugrad.registry.resolve import resolve
from plugrad.registry.scan import scan

ZIGZAG = {
    "plugrad.losses": {"zigzag": "alice:zigzag", "other": "alice:other"},
    "plugrad.metrics": {"zigzag": "alice:zigzag"},
}


def left(package, *disable):
    return {(entry.kind, entry.name) for entry in without(scan(), disable).entries if entry.package == package}


@pytest.mark.parametrize(
    ("disable", "rest"),
    [
        ("plugrad-alice", set()),
        ("Plugrad_Alice", set()),
        ("metric/zigzag", {("loss", "zigzag"), ("loss", "other")}),
        ("loss/plugrad-alice/zigzag", {("metric", "zigzag"), ("loss", "other")}),
        ("loss/plugrad-bob/zigzag", {("loss", "zigzag"), ("metric", "zigzag"), ("loss", "other")}),
    ],
)
def test_packages_and_components_are_taken_out(install, disable, rest):
    install("plugrad-alice", ZIGZAG)
    assert left("plugrad-alice", disable) == rest


def test_nothing_else_is_taken_out(install):
    install("plugrad-alice", ZIGZAG)
    everything = scan()
    catalogue = without(everything, ["plugrad-alice"])
    assert {entry.package for entry in everything.entries} - {entry.package for entry in catalogue.entries} == {
        "plugrad-alice"
    }
    assert len(everything.entries) == len(catalogue.entries) + len(catalogue.disabled)


@pytest.mark.parametrize(
    "reference", ["zigzag", "plugrad-alice/zigzag", "plugrad_alice/zigzag", "alice:zigzag", "alice.more:f"]
)
def test_what_is_disabled_cannot_be_named(install, reference):
    install("plugrad-alice", ZIGZAG)
    with pytest.raises(PluginError, match=r"is disabled: plugins\.disable in the run file has 'plugrad-alice'"):
        resolve("loss", reference, without(scan(), ["plugrad-alice"]))


def test_a_component_is_disabled_and_its_package_is_not(install):
    install("plugrad-alice", ZIGZAG)
    catalogue = without(scan(), ["loss/zigzag"])
    assert resolve("loss", "other", catalogue).package == "plugrad-alice"
    assert resolve("metric", "zigzag", catalogue).package == "plugrad-alice"
    with pytest.raises(PluginError, match="has 'loss/zigzag'"):
        resolve("loss", "zigzag", catalogue)


def test_of_two_packages_with_one_name_the_other_is_left(install):
    install("plugrad-alice", ZIGZAG)
    install("plugrad-bob", {"plugrad.losses": {"zigzag": "bob:zigzag"}})
    assert resolve("loss", "zigzag", without(scan(), ["plugrad-alice"])).package == "plugrad-bob"


def test_a_name_of_cores_does_not_pass_to_another_package(install):
    install("plugrad-alice", {"plugrad.losses": {"ppo_clip": "alice:zigzag"}})
    for disable in ("loss/plugrad/ppo_clip", "plugrad"):
        catalogue = without(scan(), [disable])
        with pytest.raises(PluginError, match=r"the loss 'ppo_clip' \(plugrad .*is disabled"):
            resolve("loss", "ppo_clip", catalogue)
        assert resolve("loss", "plugrad-alice/ppo_clip", catalogue).package == "plugrad-alice"


@pytest.mark.parametrize(
    ("asked", "near"),
    [("plugrad-alic", "plugrad-alice"), ("metric/zigzog", "zigzag"), ("xyz", None), ("metric/qqq", None)],
)
def test_what_is_not_installed_gets_a_notice(install, caplog, asked, near):
    install("plugrad-alice", ZIGZAG)
    with caplog.at_level(logging.WARNING, "plugrad"):
        assert len(left("plugrad-alice", asked)) == 3
    hint = f" Did you mean {near!r}?" if near else ""
    assert caplog.messages == [f"plugins.disable: no installed plugin is called {asked!r}.{hint}"]


def test_a_kind_that_there_is_not_is_an_error_that_shows_what_to_write(install):
    install("plugrad-alice", ZIGZAG)
    with pytest.raises(RunFileError, match=r"Did you mean 'metric'.* as in 'metric/zigzag'"):
        without(scan(), ["metrics/zigzag"])
    with pytest.raises(RunFileError, match="as in 'loss/plugrad-alice/other'"):
        without(scan(), ["plugrad_alice/other"])
