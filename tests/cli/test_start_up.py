"""What a command imports before it has something to do: no plugin, and nothing that takes seconds."""

import gc
import os
import subprocess
import sys
from importlib import import_module

import pytest

from plugrad.quick_imports import without_collections

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
STOP_AT_TORCH = """
import gc, os, sys


class StopsAtTorch:
    def find_spec(self, name, *others):
        if name == "torch":
            os.write(1, b"collects" if gc.isenabled() else b"collects nothing")
            os._exit(0)


sys.meta_path.insert(0, StopsAtTorch())
"""


def test_a_tracker_that_is_missing_is_said_without_torch():
    code = "import plugrad.trainer.tracking.check_tracking, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
        ["fit", "--help"],
        ["compare", "--help"],
        ["report", "--help"],
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
    # It knows which threads and processes keep this one from ending, and whose call began them.
    watching = ("left_threads", "calls_in_progress", "copied_process", "blame")
    assert of_the_registry <= {f"plugrad.registry.{name}" for name in watching}
    assert not {name for name in modules if name.startswith(("importlib_metadata", "pydantic"))}


def test_plugins_are_listed_and_not_imported(modules_after):
    printed, modules = modules_after("plugins", "list")
    for number in range(NUM_PLUGINS):
        assert f"    number_{number}" in printed.splitlines()
        assert f"number_{number}" not in modules
    assert not {name for name in modules if name.startswith("plugrad.standard")}


@pytest.mark.parametrize(
    "command",
    [
        "from plugrad.cli.main import app; app(['train', 'run.toml'])",
        "from plugrad.cli.main import app; app(['train', 'run.toml', '--num-processes', '2'])",
        "from plugrad.cli.main import app; app(['quickstart', '--output-dir', 'here'])",
        "from plugrad.testing.workers import fork_nursery; fork_nursery()",
        "from plugrad.testing.nursery import connection, serve; serve(connection()[0], ['torch'])",
    ],
)
def test_garbage_collection_waits_until_torch_is_imported(folder, command):
    done = subprocess.run([sys.executable, "-c", f"{STOP_AT_TORCH}\n{command}"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["collects nothing"], done.stderr


def test_and_goes_on_as_it_was_even_after_an_import_that_fails():
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        with pytest.raises(ModuleNotFoundError), without_collections():
            import_module("no_such_module")
        assert gc.isenabled() == before
    gc.enable()


def test_what_the_first_import_of_torch_has_made_is_not_looked_at_again(monkeypatch):
    """In a process that has imported it before, garbage would stay too."""
    before = gc.get_freeze_count()
    with without_collections():
        pass
    assert gc.get_freeze_count() == before
    monkeypatch.delitem(sys.modules, "torch")
    with without_collections():
        pass
    assert gc.get_freeze_count() > before
    gc.unfreeze()
