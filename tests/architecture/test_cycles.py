"""No module imports itself in a circle. Imports inside functions and below TYPE_CHECKING count too.

import-linter holds the order of the layers; this holds that there is an order inside each of them.
"""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

PACKAGES = {
    "plugrad": "core",
    "plugrad_compat": "plugins/plugrad-compat/src",
    "plugrad_environments": "plugins/plugrad-environments/src",
    "plugrad_example": "plugins/plugrad-example/src",
    "plugrad_objectives": "plugins/plugrad-objectives/src",
    "plugrad_policy": "plugins/plugrad-policy/src",
}


def modules_of(folder, package):
    """Return the file of every module of a package in this folder."""
    files = sorted((folder / package).rglob("*.py"))
    return {".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports_of(file, modules):
    """Return which of these modules a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed here"
            inner = {f"{node.module}.{alias.name}": alias.name for alias in node.names}
            found |= {name if name in modules else node.module for name in inner}
    return found & set(modules)


def cycle_in(folder, package):
    """Return the names of modules that import each other in a circle, or None."""
    modules = modules_of(folder, package)
    graph = {name: imports_of(file, modules) - {name} for name, file in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_in_a_circle(package, core):
    assert cycle_in(core.parent / PACKAGES[package], package) is None


@pytest.mark.parametrize(
    "back",
    [
        "from planted.high import f",
        "import planted.high",
        "from planted import high",
        "def g():\n    from planted.high import f",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from planted.high import f",
    ],
)
def test_a_planted_circle_is_found(plant, back):
    plant("planted/high.py", "from planted.middle import g\n\ndef f(): ...\n")
    folder = plant("planted/middle.py", "import planted.low\n\ndef g(): ...\n")
    plant("planted/low.py", "import math\n")
    assert cycle_in(folder, "planted") is None
    plant("planted/low.py", back)
    assert set(cycle_in(folder, "planted")) == {"planted.high", "planted.middle", "planted.low"}
