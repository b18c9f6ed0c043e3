"""How long an author waits for `plugrad new` and then its tests, once installed: `python -m nox -s bench -- new_package`."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import against_goal, new_table, seconds_of, show

from plugrad.registry.scan import KINDS

GOAL_S = 60.0


def new_environment(folder: Path) -> Path:
    """Make an environment that sees what is installed here, so that only the new package is installed; return its Python."""
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python*/site-packages")
    stdlib = Path(os.__file__).parent
    here = [entry for entry in sys.path if Path(entry).is_dir() and Path(entry) not in (stdlib, stdlib / "lib-dynload")]
    (site / "what_is_installed_here.pth").write_text("\n".join(here) + "\n")
    return folder / "bin" / "python"


def run(python: Path, *arguments: str, cwd: Path) -> None:
    """Run `python -m ARGUMENTS`, which must succeed."""
    subprocess.run([str(python), "-m", *arguments], check=True, cwd=cwd, stdout=subprocess.DEVNULL)


def main() -> None:
    """Show the seconds of both commands, and those of the installation between them."""
    table = new_table("KIND", "NEW, S", "PIP INSTALL, S", "TESTS, S", "NEW AND TESTS")
    with TemporaryDirectory() as name:
        folder = Path(name)
        python = new_environment(folder / "environment")
        for kind in KINDS:
            package = f"plugrad-my-{kind}"
            new = seconds_of(lambda kind=kind: run(python, "plugrad", "new", kind, f"my_{kind}", cwd=folder))
            install = seconds_of(lambda package=package: run(python, "pip", "install", "-e", f"./{package}", cwd=folder))
            tests = seconds_of(lambda package=package: run(python, "pytest", f"./{package}", cwd=folder))
            goal = against_goal([new + tests], GOAL_S, ".0f", "s")
            table.add_row(kind, f"{new:.1f}", f"{install:.1f}", f"{tests:.1f}", f"{new + tests:.1f}: {goal}")
    show("From `plugrad new` to the end of the package's own tests", table)


if __name__ == "__main__":
    main()
