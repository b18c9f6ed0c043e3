"""The user's own modules: who finds them, and who does not."""

import importlib
import importlib.util
import sys

import pytest

from plugrad import PluginError, resolve_callable
from plugrad.registry.resolve import search_modules_in


def test_a_module_of_a_reference_is_found_and_the_path_stays_as_it_was(write, tmp_path):
    write("own/mine.py", "def f(): return 7")
    path = list(sys.path)
    assert resolve_callable("mine:f", [tmp_path / "own"])() == 7
    assert sys.path == path


@pytest.mark.parametrize("reference", ["package.inner:f", "no_init.inner:f"])
def test_a_module_within_a_local_package_is_found(write, tmp_path, reference):
    write("package/__init__.py", "")
    write("package/inner.py", "def f(): return 7")
    write("no_init/inner.py", "def f(): return 7")
    assert resolve_callable(reference, [tmp_path])() == 7
    for name in ("package", "package.inner", "no_init", "no_init.inner"):
        sys.modules.pop(name, None)


def test_an_installed_module_comes_first(write, tmp_path):
    write("json.py", "raise RuntimeError('the wrong one')")
    write("colorsys.py", "raise RuntimeError('the wrong one')")
    assert resolve_callable("json:loads", [tmp_path])("7") == 7
    assert resolve_callable("colorsys:rgb_to_hsv", [tmp_path])(0, 0, 0) == (0, 0, 0)


def test_no_other_import_finds_what_lies_there(write, tmp_path):
    write("beside_it.py", "raise RuntimeError('imported')")
    write("mine.py", "def f(): return 7")
    search_modules_in([tmp_path])
    assert resolve_callable("mine.py:f", [tmp_path])() == 7
    assert importlib.util.find_spec("beside_it") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("beside_it")


def test_a_library_that_a_local_file_imports_finds_nothing_there_either(write, install, tmp_path):
    install("library", {}, code="")
    (tmp_path / "site" / "looks_for_optional.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec('an_optional_one') is not None\n"
        "try:\n    import an_optional_one\nexcept ImportError:\n    an_optional_one = None\n"
    )
    write("own/an_optional_one.py", "")
    write("own/mine.py", "import looks_for_optional as it\n\ndef f(): return it.found or it.an_optional_one is not None\n")
    assert resolve_callable("mine.py:f", [tmp_path / "own"])() is False


IMPORTS = {
    "a statement": "import helper\nfrom helper import seven\n",
    "a statement when it is called": "def f():\n    from helper import seven\n    return seven()\n",
    "importlib": "import importlib\nseven = importlib.import_module('helper').seven\n",
    "text that is executed": "exec('from helper import seven')\n",
}


@pytest.mark.parametrize("code", IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize("reference", ["{}:f", "{}.py:f", "below/{}.py:f"])
def test_a_local_file_imports_the_modules_beside_it_and_they_do(write, tmp_path, request, code, reference):
    # Beside it come first, then the folders that are searched.
    own = "below" if reference.startswith("below") else "."
    write(f"{own}/helper.py", "from helper_of_helper import seven\n")
    write("helper_of_helper.py", "def seven(): return 7\n")
    name = f"mine_{abs(hash(request.node.name))}"
    write(f"{own}/{name}.py", code if "def f" in code else f"{code}\ndef f(): return seven()\n")
    search_modules_in([tmp_path])
    assert resolve_callable(reference.format(name), [tmp_path])() == 7


def test_a_module_that_fails_is_tried_anew_and_one_that_is_missing_is_said(write, tmp_path):
    write("fails_at_first.py", "raise RuntimeError('at first')")
    with pytest.raises(PluginError, match=r"RuntimeError: at first \(.*fails_at_first.py, line 1\)"):
        resolve_callable("fails_at_first:f", [tmp_path])
    write("fails_at_first.py", "def f(): return 'then not'\n")
    assert resolve_callable("fails_at_first:f", [tmp_path])() == "then not"
    with pytest.raises(PluginError, match=rf"no module 'not_there', neither installed nor in .*{tmp_path}"):
        resolve_callable("not_there:f", [tmp_path])
