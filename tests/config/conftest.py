"""Run files on disk."""

import pytest

from plugrad import RunFile

MINIMAL = '[model]\nname = "a/model"\n[environment]\nname = "arithmetic"\n'


@pytest.fixture
def read(tmp_path):
    """Write a run file of these lines and what it must have, and read it with these overrides."""

    def read_text(text="", *overrides, minimal=MINIMAL, name="run.toml"):
        (tmp_path / name).write_text(f"{text}\n{minimal}" if not text.startswith("[") else f"{minimal}{text}")
        return RunFile.load(tmp_path / name, overrides)

    return read_text
