"""The code that the rules of this folder hold for, and small planted packages that break them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def core():
    """The folder that holds the package `plugrad`."""
    return ROOT / "core"


@pytest.fixture(scope="session")
def code_files():
    """Every Python file of core, of the plugins and of the documentation's generator.

    Tests are left out: a module of tests is a list of cases, and their fixtures need no annotations.
    """
    folders = [ROOT / "core" / "plugrad", *sorted((ROOT / "plugins").glob("*/src")), ROOT / "docs"]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    assert len({file.relative_to(ROOT).parts[:2] for file in files}) >= 5
    return files


@pytest.fixture
def plant(tmp_path):
    """Write a Python file below an empty folder, and return the folder."""

    def write(path, code):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
        return tmp_path

    return write
