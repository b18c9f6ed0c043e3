"""Resolve: a reference means one component, or the error shows what to write."""

from dataclasses import replace

import pytest

from plugrad import PluginError
from plugrad.registry.resolve import absolute_reference, load, resolve
from plugrad.registry.scan import scan

ZIGZAG = {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}}


def test_a_name(install):
    install("plugrad-alice", ZIGZAG, version="1.2")
    source = resolve("loss", "zigzag", scan())
    assert (source.target, source.package, source.name) == ("zigzag_loss:zigzag", "plugrad-alice", "zigzag")
    assert str(source) == "the loss 'zigzag' (plugrad-alice 1.2)"


@pytest.mark.parametrize("package", ["plugrad-alice", "Plugrad_Alice"])
def test_a_package_and_a_name(install, package):
    install("plugrad-alice", ZIGZAG)
    source = resolve("loss", f"{package}/zigzag", scan())
    assert (source.package, source.name, source.reference) == ("plugrad-alice", "zigzag", f"{package}/zigzag")


def test_a_module_and_a_function():
    source = resolve("loss", "my_package.losses:Zig.zag", scan())
    assert (source.target, source.name, source.package) == ("my_package.losses:Zig.zag", "zag", None)
    assert str(source) == "the loss 'zag' (my_package.losses)"


def test_a_file_and_a_function_become_absolute(write, tmp_path):
    file = write("losses/mine.py", "def zigzag(inputs): ...")
    source = resolve("loss", "./losses/mine.py:zigzag", scan(), [tmp_path / "elsewhere", tmp_path])
    assert source.reference == source.target == f"{file}:zigzag"
    assert source.name == "zigzag"


def test_a_file_in_the_first_folder_wins(write, tmp_path):
    write("b/mine.py", "")
    first = write("a/mine.py", "")
    assert resolve("loss", "mine.py:f", scan(), [tmp_path / "a", tmp_path / "b"]).target == f"{first}:f"
    assert absolute_reference("mine.py:f", [tmp_path / "b", tmp_path / "a"]) == f"{tmp_path / 'b' / 'mine.py'}:f"


def test_a_reference_that_names_no_file_stays_as_it_is(tmp_path):
    assert absolute_reference("module:f", [tmp_path]) == "module:f"
    assert absolute_reference("missing.py:f", [tmp_path]) == "missing.py:f"


def test_a_missing_file_names_the_folders(tmp_path):
    with pytest.raises(PluginError) as caught:
        resolve("loss", "mine.py:f", scan(), [tmp_path / "a", tmp_path / "b"])
    assert "'mine.py:f' names a file that does not exist: 'mine.py'" in str(caught.value)
    assert f"Looked in: {tmp_path / 'a'}, {tmp_path / 'b'}." in str(caught.value)


@pytest.mark.parametrize("reference", ["", "alice/", ":f", "module:", "module:two words", "mine.py", "module:f:"])
def test_what_is_no_reference(reference):
    with pytest.raises(PluginError, match=r"is not a reference to a loss\. Write `name`, `package/name`, `module:function`"):
        resolve("loss", reference, scan())


def test_a_misspelt_name_is_corrected_with_its_owner(install):
    install("plugrad-alice", ZIGZAG, version="1.2")
    with pytest.raises(PluginError, match=r"no loss is called 'zigzga'\. Did you mean 'zigzag' \(plugrad-alice 1\.2\)\?"):
        resolve("loss", "zigzga", scan())


def test_a_name_like_no_other_lists_what_is_installed(install):
    install("plugrad-alice", ZIGZAG)
    with pytest.raises(
        PluginError, match=r"no loss is called 'qqqq'\. Installed: .*ppo_clip.*zigzag.*`plugrad plugins list`"
    ):
        resolve("loss", "qqqq", scan())


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("gspo", r" plugrad-policy has it, which is not installed: pip install \./plugins/plugrad-policy, from a clone"),
        ("gpso", r" Did you mean 'gspo'\? plugrad-policy has that one, not installed: pip install"),
        ("skyrl", r" plugrad-compat has it"),
    ],
)
def test_a_name_of_the_directory_is_told_what_to_install(asked, answer):
    core_alone = replace(scan(), entries=tuple(entry for entry in scan().entries if entry.package == "plugrad"))
    with pytest.raises(PluginError, match=rf"no loss is called '{asked}'\.{answer}"):
        resolve("loss", asked, core_alone)


@pytest.mark.parametrize("marker", ["loss", "advantage", "metric"])
def test_an_unknown_need_is_where_its_author_wrote_it(write, marker):
    path = write("mine.py", f"from plugrad import {marker}\n\n\n@{marker}(needs={{'nothing'}})\ndef f(inputs): ...\n")
    source = resolve(marker, f"{path}:f", scan())
    with pytest.raises(PluginError, match=r"unknown need\. .*mine\.py, line 4") as caught:
        load(source)
    assert "markers.py" not in str(caught.value)
    assert "Did you mean" not in str(caught.value)


def test_the_wrong_package_is_told_who_has_it(install):
    install("plugrad-alice", ZIGZAG)
    with pytest.raises(PluginError, match=r"no loss is called 'plugrad-bob/zigzag'.* There is 'plugrad-alice/zigzag'\."):
        resolve("loss", "plugrad-bob/zigzag", scan())


def test_a_name_of_another_kind_is_told_apart(install):
    install("plugrad-alice", {"plugrad.advantages": {"zigzag": "zigzag_loss:zigzag"}})
    with pytest.raises(PluginError, match=r"no loss .* There is an advantage with that name \(plugrad-alice 1\.0\)\."):
        resolve("loss", "zigzag", scan())


def test_one_name_may_serve_two_kinds(install):
    offers = {**ZIGZAG, "plugrad.metrics": {"zigzag": "zigzag_loss:measured"}}
    install("plugrad-alice", offers)
    assert resolve("metric", "zigzag", scan()).target == "zigzag_loss:measured"


def test_two_packages_with_one_name_show_both_lines_to_write(install):
    install("plugrad-bob", ZIGZAG, version="2.0")
    install("plugrad-alice", ZIGZAG, version="1.0")
    with pytest.raises(PluginError) as caught:
        resolve("loss", "zigzag", scan())
    assert str(caught.value).splitlines() == [
        "two packages offer the loss 'zigzag'. Name one of them in the run file:",
        '    name = "plugrad-alice/zigzag"    # plugrad-alice 1.0',
        '    name = "plugrad-bob/zigzag"      # plugrad-bob 2.0',
    ]


def test_naming_the_package_picks_one_of_two(install):
    install("plugrad-bob", ZIGZAG)
    install("plugrad-alice", ZIGZAG)
    assert resolve("loss", "plugrad-bob/zigzag", scan()).package == "plugrad-bob"


def test_core_cannot_be_shadowed(install):
    install("aaa", {"plugrad.losses": {"ppo_clip": "zigzag_loss:zigzag"}})
    assert resolve("loss", "ppo_clip", scan()).package == "plugrad"
    assert resolve("loss", "aaa/ppo_clip", scan()).package == "aaa"


def test_what_lies_in_the_working_directory_is_refused_with_the_reason(install, monkeypatch):
    folder = install("plugrad-planted", ZIGZAG)
    monkeypatch.chdir(folder)
    with pytest.raises(
        PluginError, match=r"no loss is called 'zigzag'\. plugrad-planted 1\.0 offers it, but is in"
    ) as caught:
        resolve("loss", "zigzag", scan())
    assert str(folder) in str(caught.value)
    assert "Install it with pip, or start from another folder" in str(caught.value)


def test_a_module_in_the_working_directory_may_still_be_named(install, monkeypatch):
    folder = install("plugrad-planted", ZIGZAG)
    monkeypatch.chdir(folder)
    assert load(resolve("loss", "zigzag_loss:zigzag", scan(), [folder])).__name__ == "zigzag"
