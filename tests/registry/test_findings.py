"""What `plugrad plugins doctor` finds: each problem is planted and found, and a healthy package has none."""

import sys

import pytest

from plugrad.registry.findings import WARNINGS, examine
from plugrad.registry.foreign_entry_points import read_foreign_entry_points
from plugrad.registry.scan import scan, survey

BOOM = "raise RuntimeError('imported')\n\ndef zigzag(inputs): ...\n"


def zigzag(group="plugrad.losses", name="zigzag", target="alice:zigzag"):
    return {group: {name: target}}


@pytest.fixture
def findings():
    """Return the new findings, without those of the environment that the tests run in."""
    before = [finding.found for finding in examine(survey(), read_foreign_entry_points())]

    def look(of="plugrad-alice"):
        modules = set(sys.modules)
        new = [finding for finding in examine(survey(), read_foreign_entry_points()) if finding.found not in before]
        assert not {name for name in set(sys.modules) - modules if name.startswith(("alice", "bob"))}
        assert {finding.package for finding in new} <= {of}
        return new

    return look


def only(found, check, *parts):
    (finding,) = found
    assert finding.check == check
    assert finding.is_problem is (check not in WARNINGS)
    for part in parts:
        assert part in f"{finding.found}\n{finding.means}\n{finding.remedy}"


def test_a_healthy_package_is_not_mentioned(install, findings):
    install("plugrad-alice", zigzag(), BOOM, requires=["plugrad>=0.1,<0.2", "torch"])
    assert findings() == []


@pytest.mark.parametrize("broken", ["no METADATA", "no version", "no equals sign", "no UTF-8"])
def test_unreadable_metadata(install, findings, broken):
    info = install("plugrad-alice", zigzag(), BOOM) / "plugrad_alice-1.0.dist-info"
    if broken == "no METADATA":
        (info / "METADATA").unlink()
    elif broken == "no version":
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugrad-alice\n")
    elif broken == "no UTF-8":
        (info / "entry_points.txt").write_bytes(b"[plugrad.losses]\nzigzag = \xff\n")
    else:
        (info / "entry_points.txt").write_text("[plugrad.losses]\nzigzag\n")
    only(findings(of=None), "unreadable_metadata", f"the metadata in {info} cannot be read", "delete that folder")


def test_what_cannot_be_read_stops_no_scan(install, caplog):
    info = install("plugrad-alice", zigzag(), BOOM) / "plugrad_alice-1.0.dist-info"
    (info / "entry_points.txt").write_bytes(b"[plugrad.losses]\nzigzag = \xff\n")
    assert scan().entries
    assert f"its metadata cannot be read: {info}" in caplog.text


def test_two_versions_in_one_folder(install, findings):
    for version in ("1.0", "2.0"):
        folder = install("plugrad-alice", zigzag(), BOOM, version=version)
    only(findings(), "installed_twice", f"installed twice in {folder}, as ", "pip uninstall plugrad-alice")


def test_an_older_copy_in_a_later_folder(install, findings):
    install("plugrad-alice", zigzag(), BOOM, version="1.0", folder="later")
    first = install("plugrad-alice", zigzag(), BOOM, version="2.0")
    only(findings(), "shadowed_copy", f"2.0 in {first}, and 1.0 in", "2.0 is used", "plugrad_alice-1.0.dist-info")


def test_a_copy_that_offers_nothing_counts_too(install, findings):
    install("plugrad-alice", {}, version="1.0", folder="later")
    install("plugrad-alice", zigzag(), BOOM, version="2.0")
    only(findings(), "shadowed_copy", "2.0 is used")


def test_a_package_in_the_working_directory(install, findings, monkeypatch):
    folder = install("plugrad-alice", zigzag() | zigzag("plugrad.metrics", "m"), BOOM)
    monkeypatch.chdir(folder)
    parts = (f"is in the working directory, {folder}: loss zigzag, metric m", "plugrad_alice-1.0.dist-info")
    only(findings(), "in_working_directory", *parts)


def test_a_package_for_another_core(install, findings):
    install("plugrad-alice", zigzag(), BOOM, requires=["torch", "Plugrad>=7,<8"])
    only(findings(), "wrong_core", "requires plugrad<8,>=7, and this is plugrad 0.", "pip install --upgrade plugrad-alice")


@pytest.mark.parametrize("target", ["alice_gone:zigzag", "alice.inner:zigzag", "alice.inner.more:zigzag"])
def test_a_module_that_is_not_there(install, findings, target):
    folder = install("plugrad-alice", zigzag(), BOOM)
    (folder / "plugrad_alice-1.0.dist-info" / "entry_points.txt").write_text(f"[plugrad.losses]\nzigzag = {target}\n")
    only(findings(), "missing_module", f"points to {target!r}, but there is no module", "reinstall it")


def test_an_attribute_that_is_not_there(install, findings):
    install("plugrad-alice", zigzag(target="alice:gone"), BOOM)
    only(findings(), "missing_attribute", "points to 'alice:gone', but alice has no 'gone'")


def test_a_module_where_a_function_must_be(install, findings):
    folder = install("plugrad-alice", zigzag(), BOOM)
    (folder / "plugrad_alice-1.0.dist-info" / "entry_points.txt").write_text("[plugrad.losses]\nzigzag = alice\n")
    only(findings(), "missing_attribute", "points to 'alice', which is a module and not `module:function`")


def test_a_name_that_one_package_offers_twice(install, findings):
    folder = install("plugrad-alice", zigzag(), BOOM)
    points = "[plugrad.losses]\nzigzag = alice:zigzag\nzigzag = alice:zigzag.more\n"
    (folder / "plugrad_alice-1.0.dist-info" / "entry_points.txt").write_text(points)
    only(
        findings(), "unusable_name", "offers the loss 'zigzag' twice", "Until then, write alice:zigzag or alice:zigzag.more."
    )


@pytest.mark.parametrize("name", ["a/b", "a:b", "a.py"])
def test_a_name_that_no_run_file_can_write(install, findings, name):
    install("plugrad-alice", zigzag(name=name), BOOM)
    only(findings(), "unusable_name", f"has a loss named {name!r}", "Until then, write 'alice:zigzag'")


@pytest.mark.parametrize(("group", "right"), [("plugrad.loss", "plugrad.losses"), ("plugrad.metric", "plugrad.metrics")])
def test_a_group_that_there_is_not(install, findings, group, right):
    install("plugrad-alice", zigzag(group), BOOM)
    only(findings(), "unknown_group", f"in the group {group!r}: zigzag", f"Did you mean {right!r}?")


def test_two_packages_with_one_name(install, findings):
    install("plugrad-alice", zigzag(), BOOM)
    install("plugrad-bob", zigzag(target="bob:zigzag"), BOOM, version="2.0")
    said = 'Write "plugrad-alice/zigzag" (plugrad-alice 1.0) or "plugrad-bob/zigzag" (plugrad-bob 2.0).'
    only(findings(), "clash", "offered by plugrad-alice 1.0 and plugrad-bob 2.0", said)


def test_a_name_of_cores(install, findings):
    install("plugrad-alice", zigzag(name="ppo_clip"), BOOM)
    only(findings(), "clash", '"ppo_clip" is core\'s.', 'Write "plugrad-alice/ppo_clip" (plugrad-alice 1.0) for the other.')


def test_one_name_of_two_kinds_is_no_clash(install, findings):
    install("plugrad-alice", zigzag() | zigzag("plugrad.metrics"), BOOM)
    assert findings() == []


def test_plugins_for_vllm_of_any_package_but_vllm(install, findings):
    points = {"vllm.general_plugins": {"patch": "alice:patch"}, "vllm.platform_plugins": {"chip": "alice:chip"}}
    install("plugrad-alice", points, BOOM)
    install("vllm", {"vllm.general_plugins": {"own": "bob:own"}}, BOOM)
    install("vllm-omni", {"vllm_omni.general_plugins": {"own": "bob:own"}}, BOOM)
    said = "patch = alice:patch (vllm.general_plugins), chip = alice:chip (vllm.platform_plugins)"
    only(findings(), "runs_in_vllm", said, "VLLM_PLUGINS")


def test_problems_come_before_warnings(install, findings):
    install("plugrad-alice", zigzag(name="ppo_clip") | zigzag("plugrad.loss"), BOOM)
    assert [finding.check for finding in findings()] == ["unknown_group", "clash"]
