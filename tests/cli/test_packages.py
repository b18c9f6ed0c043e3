"""Packages that clash, are broken, want another plugrad, or appear in the working directory: through the command line."""

import importlib
import json

import pytest

LOSS = """
from plugrad import LossOutputs

def f(inputs):
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())

def m(inputs):
    return {"a": 1.0}
"""
WRITES_A_PACKAGE = """
from pathlib import Path

def reward(completion, example):
    info = Path("evil-1.0.dist-info")
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: evil\\nVersion: 1.0\\n")
    points = "[plugrad.losses]\\nevil = evil:f\\nimportance_sampling = evil:f\\n[plugrad.metrics]\\nevil = evil:m\\n"
    (info / "entry_points.txt").write_text(points)
    for name in ("evil", "plugrad_example", "colorsys"):
        Path(f"{name}.py").write_text("open('imported', 'w')\\n")
    return 1.0
"""


@pytest.fixture
def install(folder, monkeypatch):
    """Install a package: real metadata in a folder on the path."""

    def make(name, points, code=LOSS, *, version="1.0", requires=(), site="site"):
        info = folder / site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
        (info / "entry_points.txt").write_text(points)
        (folder / site / f"{name.replace('-', '_')}.py").write_text(code)
        monkeypatch.syspath_prepend(folder / site)
        importlib.invalidate_caches()

    return make


def train(plugrad, name, *settings):
    overrides = [f"loss.name={name}", "max_steps=1", *settings]
    return plugrad("train", "run.toml", "--overwrite", *(word for each in overrides for word in ("--set", each)))


def test_two_packages_with_one_name(plugrad, install):
    install("plugrad-alice", "[plugrad.losses]\nzigzag = plugrad_alice:f\n")
    install("plugrad-bob", "[plugrad.losses]\nzigzag = plugrad_bob:f\n", version="2.0")
    done = train(plugrad, "zigzag")
    assert done.returncode == 2
    assert "two packages offer the loss 'zigzag'" in done.stderr
    assert 'name = "plugrad-bob/zigzag"      # plugrad-bob 2.0' in done.stderr
    assert train(plugrad, "plugrad-bob/zigzag").returncode == 0


def test_a_name_of_cores_is_cores(plugrad, install, folder):
    install("plugrad-alice", "[plugrad.losses]\nppo_clip = plugrad_alice:f\n")
    done = train(plugrad, "ppo_clip")
    assert done.returncode == 0, done.stderr
    assert "For the one from plugrad-alice 1.0, write 'plugrad-alice/ppo_clip'" in done.stderr
    (loss,) = [
        component
        for component in json.loads((folder / "runs" / "run" / "plugins.json").read_text())["components"]
        if component["kind"] == "loss"
    ]
    assert loss["package"] == "plugrad"


def test_a_package_that_does_not_import_harms_only_those_who_select_it(plugrad, install, folder):
    points = "[plugrad.losses]\nbroken = plugrad_broken:f\n[plugrad.metrics]\nbroken = plugrad_broken:m\n"
    install("plugrad-broken", points, "import json\n\nimport nothing_like_this\n", version="1.1")
    done = train(plugrad, "broken")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "the loss 'broken' (plugrad-broken 1.1) cannot be imported: ModuleNotFoundError" in line
    assert f"({folder / 'site' / 'plugrad_broken.py'}, line 3)" in line
    assert "reinstall it" in line
    whole = plugrad("train", "run.toml", "--traceback", "--set", "loss.name=broken").stderr
    assert "Traceback (most recent call last)" in whole
    other = train(plugrad, "ppo_clip")
    assert other.returncode == 0
    assert "Skipping a metric: the metric 'broken' (plugrad-broken 1.1) cannot be imported" in other.stderr


def test_what_is_disabled_is_never_imported(plugrad, install, folder):
    points = "[plugrad.losses]\nslow = plugrad_broken:f\n[plugrad.metrics]\nslow = plugrad_broken:m\n"
    install("plugrad-broken", points, f"open({str(folder / 'imported')!r}, 'w')\n{LOSS}")
    for disable, leaves_in in (("plugrad-broken", False), ("metric/slow", False), ("loss/slow", True)):
        done = train(plugrad, "ppo_clip", f"plugins.disable=['{disable}']")
        assert done.returncode == 0, done.stderr
        assert (folder / "imported").exists() is leaves_in
        recorded = json.loads((folder / "runs" / "run" / "plugins.json").read_text())["components"]
        assert ("plugrad-broken" in {component["package"] for component in recorded}) is leaves_in
        assert f'disable = [\n    "{disable}",\n]' in (folder / "runs" / "run" / "run.toml").read_text()


def test_a_disabled_component_that_the_run_file_names_is_an_error(plugrad, install, folder):
    install("plugrad-broken", "[plugrad.losses]\nslow = plugrad_broken:f\n", "raise RuntimeError('imported')\n")
    for name in ("slow", "plugrad-broken/slow", "plugrad_broken:f"):
        done = train(plugrad, name, "plugins.disable=['plugrad-broken']")
        assert done.returncode == 2
        assert f"the loss {name!r} (plugrad-broken 1.0) is disabled: plugins.disable in the run file has" in done.stderr
    assert not (folder / "runs").exists()


def test_disabling_what_is_not_installed_is_a_notice(plugrad, install):
    install("plugrad-broken", "[plugrad.losses]\nslow = plugrad_broken:f\n")
    done = train(plugrad, "ppo_clip", "plugins.disable=['plugrad-brokn']")
    assert done.returncode == 0, done.stderr
    notice = "Note: plugins.disable: no installed plugin is called 'plugrad-brokn'. Did you mean 'plugrad-broken'?"
    assert notice in done.stderr


def test_a_package_for_another_plugrad_is_refused(plugrad, install):
    requires = ["torch", "plugrad>=7,<8", "plugrad>=9; extra == 'later'"]
    install("plugrad-future", "[plugrad.losses]\nfuture = plugrad_future:f\n", requires=requires)
    done = train(plugrad, "future")
    assert done.returncode == 2
    assert "(plugrad-future 1.0) requires plugrad<8,>=7, and this is plugrad 0." in done.stderr
    assert "pip install --upgrade plugrad-future" in done.stderr


def test_a_package_for_this_plugrad_is_used(plugrad, install):
    install("plugrad-now", "[plugrad.losses]\nnow = plugrad_now:f\n", requires=["plugrad>=0.1,<0.2"])
    assert train(plugrad, "now").returncode == 0


def test_two_copies_in_one_folder_are_refused_and_a_later_folder_is_mentioned(plugrad, install):
    for version in ("1.0", "2.0"):
        install("plugrad-twice", "[plugrad.losses]\ntwice = plugrad_twice:f\n", version=version)
    done = train(plugrad, "twice")
    assert done.returncode == 2
    assert "plugrad-twice is installed twice in " in done.stderr
    assert "pip uninstall plugrad-twice" in done.stderr
    install("plugrad-older", "[plugrad.losses]\nolder = plugrad_older:f\n", version="0.9", site="later")
    install("plugrad-older", "[plugrad.losses]\nolder = plugrad_older:f\n", version="1.0")
    done = train(plugrad, "older")
    assert done.returncode == 0, done.stderr
    assert "plugrad-older is installed twice: using 1.0" in done.stderr


def test_what_a_run_writes_into_the_working_directory_changes_nothing(plugrad_process, folder):
    (folder / "rewards.py").write_text(WRITES_A_PACKAGE)
    (folder / "sums.jsonl").write_text('{"prompt": "1+1="}\n{"prompt": "1+2="}\n')
    environment = "environment={name='jsonl', kwargs={path='sums.jsonl', reward='rewards.py:reward'}}"
    arguments = ("train", "run.toml", "--overwrite", "--set", environment, "--set", "max_steps=2")
    for _ in range(2):
        done = plugrad_process(*arguments)
        assert done.returncode == 0, done.stderr
        recorded = json.loads((folder / "runs" / "run" / "plugins.json").read_text())["components"]
        assert "evil" not in {component["package"] for component in recorded}
    assert (folder / "evil-1.0.dist-info").is_dir()
    refused = plugrad_process("train", "run.toml", "--overwrite", "--set", "loss.name=evil")
    assert refused.returncode == 2
    assert "packages in the working directory are refused" in refused.stderr
    assert plugrad_process("train", "run.toml", "--overwrite", "--set", "max_steps=1").returncode == 0
    assert not (folder / "imported").exists()
