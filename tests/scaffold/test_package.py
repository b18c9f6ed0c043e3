"""The files of a new package: all filled, in order for every tool that reads them, and written whole or not at all."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from trove_classifiers import classifiers

import plugrad
from plugrad.errors import PluginError
from plugrad.registry.scan import GROUPS, KINDS
from plugrad.scaffold.names import LONGEST, Names
from plugrad.scaffold.package import NewPackage, core_range

ROOT = Path(__file__).parents[2]
# The shortest and the longest: what fits on a line depends on them.
NAMES = ["q", "my_idea", "x" * (LONGEST // 2) + "_" + "y" * (LONGEST - LONGEST // 2 - 1)]
SAMPLES = [*KINDS, "turns"]
"""The samples, by the folder of their templates."""


def new(kind="loss", name="my_idea", author=None):
    if kind == "turns":
        return NewPackage(Names("environment", name), author, sample="turns")
    return NewPackage(Names(kind, name), author)


def tool(*command, cwd):
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", SAMPLES)
def test_nothing_is_left_to_fill_in(kind):
    for path, text in new(kind).contents.items():
        left = text.replace("${{ matrix.python }}", "")
        assert "$" not in left, path
        assert not [word for word in ("{name}", "{kind}", "{module}") if word in left + path], path


@pytest.mark.parametrize("kind", SAMPLES)
def test_pyproject_names_the_component_and_where_it_is(kind):
    written = new(kind, author='Ada "A." Lovelace')
    project = tomllib.loads(written.contents["pyproject.toml"])["project"]
    assert project["name"] == "plugrad-my-idea"
    assert project["authors"] == [{"name": 'Ada "A." Lovelace'}]
    (group,) = project["entry-points"]
    assert GROUPS[group] == written.names.kind
    module, _, attribute = project["entry-points"][group]["my_idea"].partition(":")
    code = written.contents[f"src/{module.replace('.', '/')}.py"]
    assert f"def {attribute}(" in code or f"class {attribute}:" in code
    assert set(project["classifiers"]) <= set(classifiers)
    (requirement,) = map(Requirement, project["dependencies"])
    assert requirement.name == "plugrad"
    assert requirement.specifier.contains(plugrad.__version__)


def test_without_an_author_none_is_named():
    assert "authors" not in tomllib.loads(new().contents["pyproject.toml"])["project"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.1.0", "plugrad>=0.1,<0.2"),
        ("0.10.3", "plugrad>=0.10,<0.11"),
        ("1.4.2", "plugrad>=1.4,<2"),
        ("0.2.0rc1", "plugrad>=0.2.0rc1,<0.3"),
        ("2.0.0.dev3", "plugrad>=2.0.0.dev3,<3"),
    ],
)
def test_the_range_of_plugrad_begins_with_the_running_version_and_ends_before_the_next_that_may_differ(version, expected):
    assert core_range(version) == expected
    assert Requirement(expected).specifier.contains(Version(version), prereleases=True)


def test_the_workflows_test_every_supported_python_and_publish_without_a_token():
    contents = new().contents
    test, publish = (yaml.safe_load(contents[f".github/workflows/{name}.yml"]) for name in ("test", "publish"))
    pythons = test["jobs"]["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads(contents["pyproject.toml"])["project"]
    assert all(python in SpecifierSet(project["requires-python"]) for python in pythons)
    assert [f"Programming Language :: Python :: {python}" in project["classifiers"] for python in pythons] == [True] * 3
    # YAML reads a bare `on` as true.
    assert "workflow_call" in test[True]
    assert publish[True] == {"release": {"types": ["published"]}}
    jobs = publish["jobs"]
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("test", "build")
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["steps"][-1] == {"uses": "pypa/gh-action-pypi-publish@release/v1"}
    assert "permissions" not in jobs["build"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", SAMPLES)
def test_the_code_is_in_plugrads_own_style(kind, name, tmp_path):
    folder = new(kind, name).write(tmp_path)
    style = ["--config", str(ROOT / "pyproject.toml"), "--config", "src = ['src']"]
    tool("ruff", "check", *style, ".", cwd=folder)
    tool("ruff", "format", "--check", *style, ".", cwd=folder)


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_code_is_as_ruff_would_have_it_without_being_told(kind, tmp_path):
    folder = new(kind).write(tmp_path)
    tool("ruff", "check", "--isolated", ".", cwd=folder)
    tool("ruff", "format", "--isolated", "--check", ".", cwd=folder)


@pytest.mark.slow
def test_the_types_are_right(tmp_path, monkeypatch):
    """In one call: mypy reads torch once. In a cache of its own: another mypy may be reading the code beside these tests."""
    folders = [new(kind, f"my_{kind}").write(tmp_path) for kind in SAMPLES]
    monkeypatch.setenv("MYPYPATH", ":".join(str(folder / "src") for folder in folders))
    tool(
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={tmp_path / 'cache'}",
        *(f"{folder}/{part}" for folder in folders for part in ("src", "tests")),
        cwd=".",
    )


def test_an_empty_folder_is_used_and_another_is_left_as_it_is(tmp_path):
    folder = tmp_path / "plugrad-my-idea"
    folder.mkdir()
    assert new().write(tmp_path) == folder
    (folder / "README.md").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(PluginError, match=r"plugrad-my-idea already exists: a folder with .*Nothing is overwritten"):
        new().write(tmp_path)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_in_its_place_is_left_as_it_is(tmp_path):
    (tmp_path / "plugrad-my-idea").write_text("mine")
    with pytest.raises(PluginError, match="already exists: a file"):
        new().write(tmp_path)
    assert (tmp_path / "plugrad-my-idea").read_text() == "mine"


@pytest.fixture
def files_of_one_kilobyte():
    """Let no file grow larger: the LICENSE does not fit, and the component before it does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_after_a_failure_nothing_is_left(tmp_path, files_of_one_kilobyte):
    with pytest.raises(PluginError, match=r"plugrad-my-idea cannot be written: File too large \(.*Nothing is left there"):
        new("advantage").write(tmp_path / "deep" / "er")
    assert not list((tmp_path / "deep" / "er").iterdir())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginError, match="cannot be written: File exists"):
        new().write(tmp_path / "file")


def test_what_is_written_is_what_was_promised(tmp_path):
    written = new("environment")
    folder = written.write(tmp_path)
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == written.contents
