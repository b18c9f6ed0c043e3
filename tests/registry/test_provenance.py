"""Provenance: a record that JSON can hold, of what ran and where it came from."""

import json
from hashlib import sha256
from pathlib import Path

import plugrad
from plugrad.registry.bind import bind
from plugrad.registry.provenance import plain, record
from plugrad.registry.resolve import load, resolve
from plugrad.registry.scan import scan

CODE = """
from pathlib import Path

def zigzag(
    inputs, clip: float = 0.5, range: tuple[float, float] = (0.0, 1.0), path: Path = Path("a"), other: float | None = None
): ...
"""


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
        "sha256": sha256((folder / "zigzag_loss.py").read_bytes()).hexdigest(),
        "options": {"clip": 0.25, "range": [0.0, 1.0], "path": "a"},
    }


def test_a_file_of_ones_own_is_recorded_with_its_path(write, tmp_path):
    file = write("mine.py", CODE)
    (component,) = record([bound("mine.py:zigzag", tmp_path)])["components"]
    assert (component["package"], component["version"]) == (None, None)
    assert component["location"] == str(file)
    assert component["reference"] == f"{file}:zigzag"


def test_components_keep_their_order(install):
    install("plugrad-alice", {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}})
    components = record([bound("zigzag"), bound("ppo_clip"), bound("zigzag")])["components"]
    assert [component["reference"] for component in components] == ["zigzag", "ppo_clip", "zigzag"]


def test_versions_are_recorded():
    versions = record([])["versions"]
    assert versions["plugrad"] == plugrad.__version__
    assert {"pluggy", "torch", "transformers", "accelerate"} < versions.keys()
    assert all(versions.values())


def test_plain_values_are_what_json_and_toml_can_hold():
    value = {1: Path("a"), "set": {3}, "nested": {"none": None, "tuple": (1, True)}, "other": complex(1, 2)}
    assert plain(value) == {"1": "a", "set": [3], "nested": {"tuple": [1, True]}, "other": "(1+2j)"}
