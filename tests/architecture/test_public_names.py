"""What `plugrad` exports, and what importing it costs."""

import importlib
import subprocess
import sys

import plugrad


def test_every_public_name_is_there_and_is_what_type_checkers_see():
    for name in plugrad.__all__:
        assert getattr(plugrad, name) is not None, name
    for module, names in plugrad._HOMES.items():
        for name in names:
            assert getattr(plugrad, name) is getattr(importlib.import_module(module), name)


def test_importing_plugrad_and_its_markers_imports_no_torch():
    code = "import plugrad, sys; plugrad.loss; plugrad.hookimpl; plugrad.RunFile; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
