"""What `plugrad` exports, and what importing it costs."""

import importlib
import subprocess
import sys

import plugrad
import plugrad.testing


def test_every_public_name_is_there_and_is_what_type_checkers_see():
    for name in plugrad.__all__:
        assert getattr(plugrad, name) is not None, name
    for module, names in plugrad._HOMES.items():
        for name in names:
            assert getattr(plugrad, name) is getattr(importlib.import_module(module), name)


def test_every_name_of_the_kit_stays_what_it_is_when_its_modules_are_imported():
    # A module of a public name would take its place.
    for module in plugrad.testing._HOMES:
        importlib.import_module(module)
    for module, names in plugrad.testing._HOMES.items():
        for name in names:
            assert getattr(plugrad.testing, name) is getattr(importlib.import_module(module), name)


def test_importing_plugrad_and_its_markers_imports_no_torch():
    code = "import plugrad, sys; plugrad.loss; plugrad.hookimpl; plugrad.RunFile; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
