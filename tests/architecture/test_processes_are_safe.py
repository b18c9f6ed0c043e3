"""Every process is started in one way, which leaves the working directory off Python's path."""

from pathlib import Path

import plugrad

CORE = Path(plugrad.__file__).parent
WAYS_AROUND_IT = ("sys.executable", "import multiprocessing", "from multiprocessing", "sys.path.append", "sys.path.insert")


def test_python_is_started_by_one_module_and_nothing_is_added_to_the_path():
    found = [
        (file.relative_to(CORE), way)
        for file in sorted(CORE.rglob("*.py"))
        for way in WAYS_AROUND_IT
        if way in file.read_text(encoding="utf-8")
    ]
    watches = (Path("registry/left_threads.py"), "import multiprocessing")
    assert found == [(Path("processes.py"), "sys.executable"), watches]
