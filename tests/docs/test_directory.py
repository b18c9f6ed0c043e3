"""The directory of packages: it says what the packages say, and an entry that cannot be is answered with what to write."""

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from plugrad.registry.scan import GROUPS, KINDS

ROOT = Path(__file__).parents[2]
KNOWN = ROOT / "core" / "plugrad" / "registry" / "known_packages.json"
OWN = sorted((ROOT / "plugins").glob("*/pyproject.toml"))
ENTRY = {
    "name": '"plugrad-mine"',
    "kinds": '["loss"]',
    "summary": '"Losses of mine"',
    "install": '"plugrad-mine>=1"',
    "links": '{ source = "https://example.org/mine" }',
}


@pytest.fixture(scope="module")
def directory():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return sys.modules["_reference.directory"]


@pytest.fixture
def read(directory, tmp_path):
    """Read a directory that is written as given."""

    def read_it(text):
        path = tmp_path / "plugins.toml"
        path.write_text(text)
        return directory.read(path)

    return read_it


def entry(more="", **changes):
    keys = {**ENTRY, **changes}
    return "\n".join(["[[package]]", *(f"{key} = {value}" for key, value in keys.items() if value), more, ""])


def project(pyproject):
    return tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("pyproject", OWN, ids=lambda path: path.parent.name)
def test_every_package_of_this_repository_is_in_it_as_it_is(directory, pyproject):
    written = project(pyproject)
    (listed,) = [package for package in directory.read() if package.name == written["name"]]
    offered = {GROUPS[group]: set(points) for group, points in written["entry-points"].items()}
    assert listed.folder == pyproject.parent
    assert listed.summary == written["description"]
    assert listed.kinds == [kind for kind in KINDS if kind in offered]
    assert set(listed.check) <= {f"{kind}/{name}" for kind, names in offered.items() for name in names}


def test_every_entry_of_this_repository_has_its_folder(directory):
    folders = {package.folder for package in directory.read() if package.folder}
    assert folders == {pyproject.parent for pyproject in OWN}


def test_the_page_has_every_package(directory):
    page = directory.directory()
    for package in directory.read():
        assert f"| `{package.name}` | {', '.join(package.kinds)} | {package.summary} |" in page
        assert f"`{package.command}`" in page


def test_an_entry_may_say_how_its_components_are_checked(read, directory, monkeypatch):
    more = '[package.check."loss/mine"]\noptions = { power = 2 }\nexpected_failures = { gradcheck = "it is a step" }\n'
    (package,) = read(entry(more))
    assert package.check["loss/mine"].options == {"power": 2}
    monkeypatch.setattr(directory, "read", lambda: [package])
    assert "- `plugrad-mine/mine` does not pass `gradcheck`: it is a step" in directory.directory()
    assert "[source](https://example.org/mine)" in directory.directory()


def test_an_option_may_be_a_table(directory):
    spec = importlib.util.spec_from_file_location("check_directory", ROOT / "docs" / "check_directory.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_directory"] = module
    spec.loader.exec_module(module)
    options = {"target": "a.py:b", "config": {"low": 0.2, "deep": {"flag": True}}}
    written = "\n".join(f"{name} = {module._as_toml(value)}" for name, value in options.items())
    assert tomllib.loads(written) == options


def test_the_entries_that_the_documentation_shows_are_ones(read):
    text = (ROOT / "docs" / "publish.md").read_text(encoding="utf-8")
    entry, check = re.findall(r"^```text\n(\[.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    (package,) = read(entry + check)
    assert package.check["loss/my_idea"].expected_failures
    explained = re.findall(r"^\| `([a-z]+)", text[text.index(entry) :], flags=re.MULTILINE)
    assert explained == list(type(package).model_fields)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (entry(kind='"loss"'), r"plugrad-mine: there is no key 'kind'\. Did you mean 'kinds'\? Keys: name, kinds, "),
        (entry(summary=""), r"plugrad-mine: 'summary' is missing\."),
        (entry(links="{ }"), r"'links\.source' is missing"),
        (entry(links='{ source = "https://a.org", sauce = "b" }'), r"no key 'links\.sauce'\. Did you mean 'source'"),
        (entry(links='{ source = "http://a.org" }'), r"links\.source is neither an https:// address nor a folder"),
        (entry(name='"mine"'), r"name must be plugrad- and small letters.*It is 'mine'"),
        (entry(name='"plugrad_mine"'), r"name must be plugrad-"),
        (entry(kinds='["losses"]'), r"kinds\.0 .*'loss', 'advantage'.*It is 'losses'"),
        (entry(kinds="[]"), r"kinds .*at least 1"),
        (entry(kinds='["metric", "loss"]'), r"kinds are each named once, in this order: \['loss', 'metric'\]"),
        (entry(summary='"a | b"'), r"summary .*pattern"),
        (entry(install='"plugrad-yours"'), r"'plugrad-yours' installs plugrad-yours, and the entry is about plugrad-mine"),
        (entry(install='"./nowhere"'), r"'\./nowhere' is no folder of this repository"),
        (entry(install='"plugrad mine"'), r"is no requirement that pip understands"),
        (
            entry('[package.check."loss/mine"]\nskip = true'),
            r"no key 'check\.loss/mine\.skip'.*Keys: options, expected_failures",
        ),
        (entry() + entry(), r"plugrad-mine is listed twice"),
        (
            entry() + entry(name='"plugrad-a"', install='"plugrad-a"'),
            r"plugrad-a is out of order: entries are sorted by name",
        ),
        ("packages = 1", r"holds \[\[package\]\] tables and nothing else; it has packages"),
        ("[[package]", r"is no TOML"),
    ],
)
def test_an_entry_that_cannot_be_is_answered_with_what_is_wrong(read, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        read(text)


def test_all_that_is_wrong_is_said_at_once(read):
    with pytest.raises(ValueError, match=r"plugins\.toml cannot be used:") as error:
        read(entry(summary="", kinds="[]") + entry(name='"other"'))
    assert len(str(error.value).splitlines()) >= 4


def test_core_knows_what_the_packages_offer(directory):
    assert KNOWN.read_text(encoding="utf-8") == directory.known_components()
    assert json.loads(KNOWN.read_text(encoding="utf-8"))["loss"]["gspo"]["package"] == "plugrad-policy"
