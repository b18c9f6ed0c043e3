"""What `plugrad` exports, and what importing it costs."""

import importlib
import subprocess
import sys

import pytest

import plugrad
import plugrad.testing
from plugrad.lazy_names import homes_of


def test_every_public_name_is_there():
    for name in plugrad.__all__:
        assert getattr(plugrad, name) is not None, name


@pytest.mark.parametrize("package", [plugrad, plugrad.testing])
def test_every_name_is_what_type_checkers_see_and_stays_it_when_its_modules_are_imported(package):
    homes = homes_of(package.__file__)
    assert set(package.__all__) - {"__version__"} == set(homes)
    assert set(dir(package)) >= set(homes)
    # A module of a public name would take its place.
    for module in homes.values():
        importlib.import_module(module)
    for name, module in homes.items():
        assert getattr(package, name) is getattr(importlib.import_module(module), name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'plugrad' has no attribute 'gspo'"):
        _ = plugrad.gspo


def test_an_attribute_error_of_an_import_is_told_as_it_is(tmp_path, monkeypatch):
    package = tmp_path / "lazy_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from plugrad.lazy_names import attach\n__getattr__, __dir__, __all__ = attach(__name__, __file__)\n"
    )
    (package / "__init__.pyi").write_text("from lazy_package.broken import thing as thing\n")
    (package / "broken.py").write_text("import math\nthing = math.no_such_function\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"lazy_package\.thing raised AttributeError: .*'no_such_function'") as raised:
        importlib.import_module("lazy_package").thing  # noqa: B018
    assert isinstance(raised.value.__cause__, AttributeError)
    with pytest.raises(ImportError, match="no_such_function"):
        exec("from lazy_package import thing")


def test_importing_plugrad_and_its_markers_imports_no_torch():
    code = "import plugrad, sys; plugrad.loss; plugrad.hookimpl; plugrad.RunFile; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
