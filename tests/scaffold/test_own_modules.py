"""The user's own modules: which are copied, how their imports read then, and what is refused."""

import pytest

from plugrad.errors import PluginError
from plugrad.scaffold.import_origins import origin_of_import
from plugrad.scaffold.own_modules import OwnModule, OwnModules

HELPERS = {"helpers.py": "X = 1\n", "deep/__init__.py": "", "deep/inner.py": "from . import other\n", "deep/other.py": ""}


@pytest.fixture
def modules(tmp_path):
    """Make the modules behind a file, or behind a module that is imported by its name."""
    origin_of_import.cache_clear()

    def make(files, name=""):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        first = next(iter(files))
        main = OwnModule(name, tmp_path / first, is_package=first.endswith("__init__.py"))
        return OwnModules.of(main, (str(tmp_path),))

    yield make
    origin_of_import.cache_clear()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import helpers", "from . import helpers"),
        ("import helpers as h", "from . import helpers as h"),
        ("from helpers import X", "from .helpers import X"),
        ("from helpers import *", "from .helpers import *"),
        ("from helpers import (  # why\n    X as Y,\n)", "from .helpers import (  # why\n    X as Y,\n)"),
        ("import os, helpers", "import os; from . import helpers"),
        ("import os as o, helpers as h", "import os as o; from . import helpers as h"),
        ("import deep.inner", "from .deep import inner as _deep_inner; from . import deep"),
        ("import deep.inner as inner", "from .deep import inner"),
        ("from deep import inner", "from .deep import inner"),
        ("from deep.inner import other", "from .deep.inner import other"),
        ("def f():\n    import helpers; return helpers.X", "def f():\n    from . import helpers; return helpers.X"),
        ("é = 'ü'; import helpers", "é = 'ü'; from . import helpers"),
        ("import helpers; import deep", "from . import helpers; from . import deep"),
        ("try:\n    import helpers\nexcept ImportError:\n    pass", None),
        ("import os\nimport torch\nfrom plugrad import loss", "import os\nimport torch\nfrom plugrad import loss"),
        ("if __name__ == '__main__':\n    import helpers", "if __name__ == '__main__':\n    import helpers"),
        ("text = 'import helpers'  # import helpers", "text = 'import helpers'  # import helpers"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_imports_of_ones_own_become_relative_and_nothing_else_changes(modules, before, after, line_end):
    after = before.replace("import helpers", "from . import helpers") if after is None else after
    text = f"{before}\n# end\n".replace("\n", line_end)
    contents = modules({"main.py": text, **HELPERS}).contents("my_idea")
    assert contents["my_idea.py"].decode() == f"{after}\n# end\n".replace("\n", line_end)


def test_what_is_imported_is_copied_and_nothing_else(modules):
    found = modules({"main.py": "import deep.inner\n", "unused.py": "", **HELPERS})
    assert set(found.contents("m")) == {"m.py", "deep/__init__.py", "deep/inner.py", "deep/other.py"}


@pytest.mark.parametrize("raw", ["# coding: latin-1\nx = 'é'\n".encode("latin-1"), b"\xef\xbb\xbfimport os\r\n", b"x = 1"])
def test_a_file_whose_imports_hold_is_the_same_byte_by_byte(modules, raw):
    assert modules({"main.py": raw}).contents("m") == {"m.py": raw}


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        (
            "# coding: latin-1\nx = 'é'; import helpers\n".encode("latin-1"),
            "# coding: latin-1\nx = 'é'; from . import helpers\n".encode("latin-1"),
        ),
        (b"\xef\xbb\xbfimport helpers\n", b"\xef\xbb\xbffrom . import helpers\n"),
    ],
)
def test_the_encoding_of_a_file_stays(modules, raw, changed):
    assert modules({"main.py": raw, **HELPERS}).contents("m")["m.py"] == changed


def test_a_module_of_a_package_stays_where_it_is_with_what_it_imports(modules):
    files = {"pkg/sub/mine.py": "from ..shapes import f\nfrom pkg.shapes import f as g\nimport helpers\n"}
    files |= {"pkg/__init__.py": "from .sub.mine import f\n", "pkg/sub/__init__.py": "", "pkg/shapes.py": "", **HELPERS}
    found = modules(files, "pkg.sub.mine")
    assert found.keeps_structure
    contents = found.contents("pkg.sub.mine")
    assert (
        contents["pkg/sub/mine.py"] == b"from ..shapes import f\nfrom ...pkg.shapes import f as g\nfrom ... import helpers\n"
    )
    assert set(contents) == {"pkg/sub/mine.py", "pkg/__init__.py", "pkg/sub/__init__.py", "pkg/shapes.py", "helpers.py"}


def test_a_module_of_a_package_that_imports_nothing_of_it_is_copied_alone(modules):
    found = modules({"pkg/mine.py": "import helpers\n", "pkg/__init__.py": "from .mine import f\n", **HELPERS}, "pkg.mine")
    assert not found.keeps_structure
    assert found.contents("m") == {"m.py": b"from . import helpers\n", "helpers.py": b"X = 1\n"}


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("import numpy as np, torch\nimport plugrad\nfrom plugrad.testing import tiny_model", ["numpy"]),
        ("def f():\n    import yaml.nodes", ["PyYAML"]),
        ("from plugrad_policy.gspo import gspo", ["plugrad-policy"]),
        ("import helpers", ["PyYAML"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy", []),
        ("if __name__ == '__main__':\n    import numpy", []),
        ("import os, json, __future__", []),
    ],
)
def test_packages_that_are_imported_are_required_from_the_installed_version_on(modules, text, requirements):
    found = modules({"main.py": text, "helpers.py": "import yaml\n"})
    assert sorted(requirement.partition(">=")[0] for requirement in found.requirements) == requirements
    # A local version such as 2.6.0+cpu cannot be asked for.
    assert not [each for each in found.requirements if "+" in each or ">=" not in each]


def test_a_module_that_is_not_there_is_told(modules):
    text = "try:\n    import flash_nothing.fast\nexcept ImportError:\n    pass"
    assert modules({"main.py": text}).missing == {"flash_nothing"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"main.py": "import helpers", "helpers.py": "import main"}, "import each other"),
        ({"main.py": "import helpers", "helpers.py": "def f(:"}, "helpers.py cannot be read as Python"),
        ({"main.py": "import helpers", "helpers.py": b"x = '\xff'"}, "helpers.py cannot be read as Python"),
    ],
)
def test_what_cannot_be_copied_is_refused(modules, files, said):
    with pytest.raises(PluginError, match=said):
        modules(files)


def test_a_module_that_nobody_else_would_have_is_refused(modules, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "stray.py").write_text("")
    monkeypatch.syspath_prepend(elsewhere)
    with pytest.raises(PluginError, match=r"stray\.py, which belongs to no installed package.*Copy it beside the file"):
        modules({"main.py": "import stray"})


def test_files_that_a_module_reads_beside_itself_come_along(modules, tmp_path):
    (tmp_path / "words.txt").write_text("a b")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "more.txt").write_text("c")
    found = modules(
        {
            "main.py": "import deep.inner\nx = Path(__file__).with_name('words.txt')\ny = 'none.txt'",
            "deep/__init__.py": "",
            "deep/inner.py": "x = __file__, 'more.txt', '../words.txt'",
        }
    )
    assert found.data("m") == {"words.txt": tmp_path / "words.txt", "deep/more.txt": tmp_path / "deep" / "more.txt"}


def test_files_are_left_alone_if_the_module_does_not_ask_where_it_lies(modules, tmp_path):
    (tmp_path / "words.txt").write_text("a b")
    assert modules({"main.py": "x = open('words.txt')"}).data("m") == {}
