"""Finding modules without importing them."""

import sys

import pytest

from plugrad.registry.modules import find_module, may_define, source_of, summary_of

BOOM = "raise RuntimeError('imported')\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


@pytest.fixture
def tree(write, site):
    """A package, a namespace package in two folders of the path, and modules in them; importing anything raises."""
    for name in (
        "whole/__init__.py",
        "whole/inner/__init__.py",
        "whole/inner/leaf.py",
        "spread/one.py",
        "spread/deep/two.py",
    ):
        write(f"site/{name}", BOOM)
    write("later/spread/deep/three.py", BOOM)
    sys.path.append(str(site.parent / "later"))
    return site


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("whole", "site/whole/__init__.py"),
        ("whole.inner.leaf", "site/whole/inner/leaf.py"),
        ("spread.one", "site/spread/one.py"),
        ("spread.deep.two", "site/spread/deep/two.py"),
        ("spread.deep.three", "later/spread/deep/three.py"),
    ],
)
def test_modules_are_found_where_import_would_find_them_and_nothing_is_imported(tree, name, file):
    before = set(sys.modules)
    assert find_module(name).origin == str(tree.parent / file)
    assert source_of(name) == BOOM
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "name", ["nowhere", "nowhere.inner", "whole.nowhere", "whole.inner.leaf.more", "spread.nowhere", ""]
)
def test_modules_that_are_not_there_are_not_found(tree, name):
    assert find_module(name) is None
    assert source_of(name) is None


def test_what_is_no_file_of_python_has_no_source(tree):
    assert find_module("spread.deep") is not None
    for name in ("spread.deep", "sys", "math"):
        assert source_of(name) is None


MODULE = '''"""The module: a line.

More."""

raise RuntimeError


def documented(inputs):
    """Its formula.

    More."""


class Mine:
    'A class.'


def bare(inputs): ...
'''


def test_a_component_alone_in_its_module_is_summed_up_by_the_module_and_else_by_itself(write, site):
    write("site/mine.py", MODULE)
    assert summary_of("mine:documented", is_alone=True) == "The module: a line."
    assert summary_of("mine:documented", is_alone=False) == "Its formula."
    assert summary_of("mine:Mine", is_alone=False) == "A class."
    assert summary_of("mine:bare", is_alone=False) == "The module: a line."


@pytest.mark.parametrize("begin", ["from a\nfile, ", "class\nif ", "def\n", "import this"])
def test_a_docstring_with_lines_that_look_like_statements_is_read_whole(write, site, begin):
    write("site/odd.py", "")
    (site / "odd.py").write_text(f'"""It says:\n{begin}"""\nimport nothing\n')
    assert summary_of("odd:f", is_alone=True) == "It says:"


@pytest.mark.parametrize("code", ["", "def f(inputs): ...\n", "def f(:\n", "x = '\x00'\n"])
def test_a_module_that_says_nothing_or_cannot_be_parsed_has_no_summary(write, site, code):
    write("site/silent.py", "")
    (site / "silent.py").write_text(code)
    assert summary_of("silent:f", is_alone=True) is None
    assert summary_of("nowhere:f", is_alone=True) is None


@pytest.mark.parametrize(
    ("source", "may"),
    [
        ("def gspo(inputs): ...", True),
        ("from .losses import gspo", True),
        ("from .losses import *", True),
        ("def __getattr__(name): ...", True),
        ("globals ()['gs' + 'po'] = 1", True),
        ("def gspo_token(inputs): ...", False),
        ("", False),
    ],
)
def test_only_what_is_certain_is_said_to_be_missing(source, may):
    assert may_define(source, "gspo") is may
