"""Scan: read from metadata alone, and never from a folder where a run can write."""

import logging
import os
import site
import subprocess
import sys

import pytest

from plugrad.registry.findings import examine
from plugrad.registry.foreign_entry_points import read_foreign_entry_points
from plugrad.registry.resolve import search_modules_in
from plugrad.registry.scan import KINDS, scan, survey

ZIGZAG = {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}}


def entries_of(package, catalogue):
    return [entry for entry in catalogue.entries if entry.package == package]


def test_an_entry_says_what_it_is_and_whose(install):
    folder = install("plugrad-alice", ZIGZAG, version="1.2", summary="Losses of Alice.")
    (entry,) = entries_of("plugrad-alice", scan())
    assert (entry.kind, entry.name, entry.target) == ("loss", "zigzag", "zigzag_loss:zigzag")
    assert (entry.version, entry.summary, entry.owner) == ("1.2", "Losses of Alice.", "plugrad-alice 1.2")
    assert entry.location == str(folder)


def test_every_kind_has_its_group(install):
    offers = {f"plugrad.{group}": {"x": "x_module:x"} for group in ("losses", "advantages", "metrics", "environments")}
    install("plugrad-alice", offers | {"plugrad.extensions": {"x": "x_module:x"}, "console_scripts": {"x": "x_module:x"}})
    assert sorted(entry.kind for entry in entries_of("plugrad-alice", scan())) == sorted(KINDS)


def test_a_package_needs_no_summary(install):
    install("plugrad-alice", ZIGZAG)
    assert [entry.summary for entry in entries_of("plugrad-alice", scan())] == [""]


@pytest.mark.parametrize("broken", ["no METADATA", "no version", "no equals sign"])
def test_broken_metadata_harms_nobody_else(install, caplog, broken):
    folder = install("plugrad-alice", ZIGZAG)
    info = install("plugrad-broken", ZIGZAG) / "plugrad_broken-1.0.dist-info"
    if broken == "no METADATA":
        (info / "METADATA").unlink()
    elif broken == "no version":
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugrad-broken\n")
    else:
        (info / "entry_points.txt").write_text("[plugrad.losses]\nzigzag\n")
    with caplog.at_level(logging.WARNING, "plugrad"):
        catalogue = scan()
    assert len(entries_of("plugrad-alice", catalogue)) == 1
    assert [entry.package for entry in catalogue.entries if entry.location == str(folder)] == ["plugrad-alice"]
    (warning,) = caplog.messages
    assert f"its metadata cannot be read: {info}" in warning


def test_scanning_imports_no_plugin(install):
    install("plugrad-alice", ZIGZAG, code="raise RuntimeError('imported')")
    assert entries_of("plugrad-alice", scan())
    assert "zigzag_loss" not in sys.modules


def test_scanning_imports_no_torch(install):
    folder = install("plugrad-alice", ZIGZAG)
    code = (
        "import plugrad, sys\n"
        "from plugrad.registry.scan import scan\n"
        "print(*(entry.name for entry in scan().entries))\n"
        "print(*({'torch', 'transformers', 'zigzag_loss'} & sys.modules.keys()))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found, imported = run.stdout.splitlines()
    assert {"zigzag", "ppo_clip"} <= set(found.split())
    assert imported == ""


def test_core_comes_first_whatever_the_order_of_the_path(install):
    install("aaa", ZIGZAG)
    losses = scan().of_kind("loss")
    packages = [entry.package for entry in losses]
    assert packages[0] == "plugrad"
    assert packages.index("aaa") == packages.count("plugrad")
    assert {entry.kind for entry in losses} == {"loss"}


def test_package_names_are_normalised(install):
    install("Plugrad_Alice", ZIGZAG)
    assert len(entries_of("plugrad-alice", scan())) == 1


def test_of_two_distributions_of_one_name_the_first_on_the_path_is_used(install):
    install("plugrad-alice", ZIGZAG, version="1.0", folder="later")
    install("plugrad-alice", ZIGZAG, version="2.0", folder="first")
    assert [entry.version for entry in entries_of("plugrad-alice", scan())] == ["2.0"]


def test_the_working_directory_is_refused(install, monkeypatch):
    folder = install("plugrad-planted", ZIGZAG)
    monkeypatch.chdir(folder)
    catalogue = scan()
    assert entries_of("plugrad-planted", catalogue) == []
    assert [entry.package for entry in catalogue.refused] == ["plugrad-planted"]


def test_the_working_directory_is_refused_under_its_other_names(install, monkeypatch, tmp_path):
    folder = install("plugrad-planted", ZIGZAG, on_path=False)
    link = tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.chdir(folder)
    for name in ("", ".", str(link)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [name, *sys.path])
            catalogue = scan()
        assert entries_of("plugrad-planted", catalogue) == []
        assert [entry.package for entry in catalogue.refused] == ["plugrad-planted"]


def test_a_distribution_planted_in_the_working_directory_does_not_hide_an_installed_one(install, monkeypatch):
    install("plugrad-alice", ZIGZAG, version="1.0")
    planted = install("plugrad-alice", ZIGZAG, version="9.9", folder="work")
    monkeypatch.chdir(planted)
    assert [entry.version for entry in entries_of("plugrad-alice", scan())] == ["1.0"]


def test_a_folder_that_a_run_may_write_is_refused(install):
    folder = install("plugrad-planted", ZIGZAG)
    catalogue = scan(refused_folders=[folder])
    assert entries_of("plugrad-planted", catalogue) == []
    assert [entry.package for entry in catalogue.refused] == ["plugrad-planted"]


def test_a_folder_below_the_working_directory_is_not_the_working_directory(install, monkeypatch, tmp_path):
    install("plugrad-alice", ZIGZAG)
    monkeypatch.chdir(tmp_path)
    assert len(entries_of("plugrad-alice", scan())) == 1


def test_site_packages_are_trusted_even_as_the_working_directory(install, monkeypatch):
    folder = install("plugrad-alice", ZIGZAG)
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(folder)])
    monkeypatch.chdir(folder)
    assert len(entries_of("plugrad-alice", scan())) == 1


def test_a_folder_that_was_searched_for_modules_stays_untrusted(tmp_path, monkeypatch):
    info = tmp_path / "left-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: left\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[plugrad.losses]\nleft = left:left\n")
    monkeypatch.setattr("sys.path", [*sys.path])
    search_modules_in([tmp_path])
    found = scan()
    assert "left" not in {entry.name for entry in found.entries}
    assert "left" in {entry.name for entry in found.refused}


def test_a_folder_that_is_on_the_path_twice_holds_its_packages_once(install):
    site = install("plugrad-alice", {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}})
    sys.path += [str(site), f"{site}/"]
    catalogue = scan()
    assert [entry.name for entry in catalogue.entries if entry.package == "plugrad-alice"] == ["zigzag"]
    assert catalogue.copies == ()


@pytest.mark.parametrize("name", ["entry_points.txt", "METADATA", "direct_url.json"])
@pytest.mark.parametrize("how", ["a named pipe", "a device", "too large", "a loop"])
def test_a_file_of_metadata_that_is_no_file_blocks_nobody(install, caplog, name, how):
    install("plugrad-alice", ZIGZAG)
    file = install("plugrad-broken", ZIGZAG, folder="elsewhere") / "plugrad_broken-1.0.dist-info" / name
    file.unlink(missing_ok=True)
    if how == "a named pipe":
        os.mkfifo(file)
    elif how == "a device":
        file.symlink_to("/dev/zero")
    elif how == "a loop":
        file.symlink_to(file)
    else:
        with file.open("wb") as huge:
            huge.truncate(2**40)
    with caplog.at_level(logging.WARNING, "plugrad"):
        catalogue = scan()
    assert len(entries_of("plugrad-alice", catalogue)) == 1
    assert not entries_of("plugrad-broken", catalogue)
    (warning,) = caplog.messages
    assert f"its metadata cannot be read: {file.parent}" in warning
    examine(survey(), read_foreign_entry_points())
