"""An environment into which a test installs packages, and which sees everything that is installed here."""

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def programs(self):
        return self.folder / "bin"

    @property
    def site(self):
        (site,) = self.folder.glob("lib/python*/site-packages")
        return site

    def call(self, *command, cwd, **variables):
        """Run `python COMMAND` as a user of this environment would; return the exit code and what it printed."""
        return self.call_program("python", *command, cwd=cwd, **variables)

    def call_program(self, program, *arguments, cwd, **variables):
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
        path = f"{self.programs}{os.pathsep}{kept['PATH']}"
        done = subprocess.run(
            [program if Path(program).is_absolute() else self.programs / program, *map(str, arguments)],
            cwd=cwd,
            env={**kept, "PATH": path, "HF_HUB_OFFLINE": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def succeed(self, *command, cwd, **variables):
        """Run `python COMMAND`, which must succeed; return what it printed."""
        code, printed = self.call(*command, cwd=cwd, **variables)
        assert code == 0, f"{command} ended with {code}:\n{printed}"
        return printed

    def install(self, *folders):
        """Install packages without the network: hatchling is among what is installed here."""
        quick = ("--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall")
        self.succeed("-m", "pip", "install", *quick, *folders, cwd=folders[0].parent)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Make an environment; it is removed in the end."""
    made = Environment(tmp_path_factory.mktemp("environment"))
    venv.create(made.folder, with_pip=True)
    stdlib = Path(os.__file__).parent
    here = [entry for entry in sys.path if Path(entry).is_dir() and Path(entry) not in (stdlib, stdlib / "lib-dynload")]
    (made.site / "what_is_installed_here.pth").write_text("\n".join(here) + "\n", encoding="utf-8")
    yield made
    shutil.rmtree(made.folder)
