"""How long whole commands take where 200 plugin packages are installed: `python -m nox -s bench -- command_line`."""

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measuring import against_goal, in_turn, middle_half, new_table, show

NUM_PLUGINS = 200
NUM_OTHERS = 100
ROUNDS = 11

COMMANDS = {
    "plugrad plugins list": ["-m", "plugrad", "plugins", "list"],
    "plugrad --help": ["-m", "plugrad", "--help"],
    "python -c pass": ["-c", "pass"],
    "python -c 'import importlib_metadata, rich, typer'": ["-c", "import importlib_metadata, rich, typer"],
}
GOALS_S = {"plugrad plugins list": 0.5, "plugrad --help": 0.3}

METADATA = """Metadata-Version: 2.4
Name: {name}
Version: 0.{number}.0
Summary: The loss number {number}, as its paper has it
Author: The developers of number {number}
License-Expression: Apache-2.0
Keywords: losses,reinforcement learning
Classifier: Development Status :: 3 - Alpha
Classifier: Intended Audience :: Science/Research
Classifier: Programming Language :: Python :: 3.11
Requires-Python: >=3.11
Requires-Dist: plugrad<0.2,>=0.1
Requires-Dist: torch>=2.6
Description-Content-Type: text/markdown

# {name}

"""
PARAGRAPH = "A README has some screens of text, and all of it is in the metadata that an installer writes.\n\n" * 40

LOSS = inspect.getsource(importlib.import_module("plugrad.standard.losses.ppo_clip")).replace("def ppo_clip(", "def loss(")
"""A component of ordinary length, since its docstring is looked up in the source."""


def install(site: Path, name: str, number: int, entry_points: str) -> None:
    """Write what an installer leaves in `site-packages` for a package of one module."""
    module = name.replace("-", "_")
    (site / module).mkdir()
    (site / module / "__init__.py").write_text(LOSS)
    info = site / f"{module}-0.{number}.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA.format(name=name, number=number) + PARAGRAPH)
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: hatchling\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "entry_points.txt").write_text(entry_points)
    files = [f"{module}/__init__.py", *(f"{info.name}/{path.name}" for path in info.iterdir())]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def install_all(site: Path) -> None:
    """Install the plugin packages, and others with commands of their own."""
    site.mkdir()
    for number in range(NUM_PLUGINS):
        install(
            site, f"plugrad-number-{number}", number, f"[plugrad.losses]\nnumber_{number} = plugrad_number_{number}:loss\n"
        )
    for number in range(NUM_OTHERS):
        install(site, f"other-{number}", number, f"[console_scripts]\nother-{number} = other_{number}:main\n")


def command(arguments: list[str], folder: Path) -> Callable[[], object]:
    """Return a call that runs Python with these arguments, as a user in an ordinary folder would."""
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    call = partial(subprocess.run, check=True, cwd=folder / "work", env=environment, stdout=subprocess.DEVNULL)
    return lambda: call([sys.executable, *arguments])


def main() -> None:
    """Show the median of each command."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        install_all(folder / "site")
        seconds = in_turn({label: command(arguments, folder) for label, arguments in COMMANDS.items()}, rounds=ROUNDS)
    title = f"Whole commands, {NUM_PLUGINS} plugin packages and {NUM_OTHERS} others beside what is installed"
    table = new_table("COMMAND", "MEDIAN, S", "MIDDLE HALF, S", "GOAL")
    for label, values in seconds.items():
        goal = against_goal(values, GOALS_S.get(label), ".1f", "s")
        table.add_row(label, f"{median(values):.3f}", middle_half(values, ".3f"), goal)
    show(title, table)


if __name__ == "__main__":
    main()
