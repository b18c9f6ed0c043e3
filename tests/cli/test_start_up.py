"""What a command imports before it has something to do: no plugin, and nothing that takes seconds."""

import os
import subprocess
import sys

import pytest

NUM_PLUGINS = 5
HEAVY = ["torch", "transformers", "accelerate", "jaxtyping", "beartype", "plugrad.config.run_file", "plugrad.trainer"]
RUN_AND_REPORT = """
import sys
from plugrad.cli.main import main

sys.argv = ["plugrad", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.fixture
def site(folder):
    """A folder with installed plugin packages that cannot be imported."""
    for number in range(NUM_PLUGINS):
        info = folder / "site" / f"plugrad_number_{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugrad-number-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[plugrad.losses]\nnumber_{number} = number_{number}:loss\n")
        (folder / "site" / f"number_{number}.py").write_text("raise RuntimeError('imported')\ndef loss(inputs): ...\n")
    return folder / "site"


@pytest.fixture
def modules_after(site):
    """Run a command in a separate process. Return its output and the modules that it imported."""

    def call(*arguments):
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, "-c", RUN_AND_REPORT, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        return done.stdout, set(done.stderr.split())

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["compare", "--help"],
        ["quickstart", "--help"],
        ["new", "--help"],
        ["new", "loss", "my_idea"],
        ["check", "--help"],
        ["plugins", "list"],
        ["plugins", "list", "--json"],
        ["plugins", "doctor"],
        ["plugins", "show", "--help"],
    ],
)
def test_nothing_heavy_is_imported_for(modules_after, arguments):
    _, modules = modules_after(*arguments)
    assert "plugrad.cli.main" in modules
    assert modules.isdisjoint(HEAVY)


def test_help_waits_for_nothing_that_only_a_command_needs(modules_after):
    _, modules = modules_after("--help")
    of_the_registry = {name for name in modules if name.startswith("plugrad.registry.")}
    # It knows which threads keep the process from ending.
    assert of_the_registry <= {"plugrad.registry.left_threads"}
    assert not {name for name in modules if name.startswith(("importlib_metadata", "pydantic"))}


def test_plugins_are_listed_and_not_imported(modules_after):
    printed, modules = modules_after("plugins", "list")
    for number in range(NUM_PLUGINS):
        assert f"    number_{number}" in printed.splitlines()
        assert f"number_{number}" not in modules
    assert not {name for name in modules if name.startswith("plugrad.standard")}
