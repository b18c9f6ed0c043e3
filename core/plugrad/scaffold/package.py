"""A new package: its files from the templates, written whole or not at all."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import tomli_w
from packaging.version import Version

from plugrad import __version__
from plugrad.errors import PluginError
from plugrad.scaffold.names import Names

TEMPLATES = files("plugrad.scaffold") / "templates"
FILES = {
    "src/{module}/{name}.py": "{kind}/component.py",
    "src/{module}/__init__.py": "common/__init__.py",
    "src/{module}/py.typed": "common/py.typed",
    "tests/test_{name}.py": "{kind}/test_component.py",
    "pyproject.toml": "common/pyproject.toml",
    "README.md": "common/README.md",
    "LICENSE": "common/LICENSE",
    ".gitignore": "common/gitignore",
    ".github/workflows/test.yml": "common/test.yml",
    ".github/workflows/publish.yml": "common/publish.yml",
}
"""Where each file of a package comes from. What is in braces is one of the `words` of `Names`."""


@dataclass(frozen=True)
class NewPackage:
    """A package that is not yet written."""

    names: Names
    author: str | None = None

    @cached_property
    def contents(self) -> dict[str, str]:
        """The text of every file, by its path in the package's folder."""
        words = self.names.words
        return {path.format(**words): self._filled(template.format(**words)) for path, template in FILES.items()}

    @cached_property
    def identifiers(self) -> set[str]:
        """Every name that the code beside the component uses, of modules, functions and variables."""
        other = NewPackage(Names(self.names.kind, "a_name_of_no_other"))
        nodes = (node for path, text in other.contents.items() if path.endswith(".py") for node in ast.walk(ast.parse(text)))
        return {name for node in nodes for name in _names_in(node)} - {other.names.attribute, "self"}

    def write(self, output_dir: Path) -> Path:
        """Write the package's folder into `output_dir`, and return it. After a failure nothing is there.

        Raises:
            PluginError: the folder is there and not empty, the name would not do in the code, or nothing can be written.
        """
        self.names.check_not_among(self.identifiers)
        folder = output_dir / self.names.package
        _check_is_free(folder)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=output_dir, prefix=".plugrad-new-") as temporary:
                made = Path(temporary) / folder.name
                for path, text in self.contents.items():
                    (made / path).parent.mkdir(parents=True, exist_ok=True)
                    (made / path).write_text(text, encoding="utf-8", newline="\n")
                if folder.is_dir():
                    folder.rmdir()
                made.rename(folder)
        except OSError as error:
            reason = error.strerror or error
            raise PluginError(
                f"{folder} cannot be written: {reason} ({error.filename}). Nothing is left there. Choose another "
                "--output-dir."
            ) from error
        return folder

    def _filled(self, template: str) -> str:
        return Template(_template(template)).substitute(self._words)

    @cached_property
    def _words(self) -> dict[str, str]:
        words = {**self.names.words, "core_range": core_range(__version__), "authors": self._authors}
        snippets = {"formula": "formula.md", "run_file": "run.toml"}
        filled = {
            word: Template(_template(f"{self.names.kind}/{name}")).substitute(words) for word, name in snippets.items()
        }
        return {**words, **{word: text.rstrip("\n") for word, text in filled.items()}}

    @property
    def _authors(self) -> str:
        return tomli_w.dumps({"authors": [{"name": self.author}]}) if self.author else ""


def core_range(version: str) -> str:
    """Return the versions of plugrad that a package written for `version` supports, such as `plugrad>=0.1,<0.2`.

    Before 1.0 a minor version may change what a plugin is promised; after it, only a major one. A package that is written
    with a pre-release begins there, which PEP 440 sorts before the release.
    """
    now = Version(version)
    begins = version if now.is_prerelease else f"{now.major}.{now.minor}"
    ends = f"{now.major}.{now.minor + 1}" if now.major == 0 else f"{now.major + 1}"
    return f"plugrad>={begins},<{ends}"


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.template").read_text(encoding="utf-8")


def _check_is_free(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    found = f"a folder with {', '.join(sorted(path.name for path in folder.iterdir())[:3])}" if folder.is_dir() else "a file"
    raise PluginError(
        f"{folder} is there already: {found}. Nothing is overwritten. Remove it, or choose another name or --output-dir."
    )


def _names_in(node: ast.AST) -> set[str]:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.alias(name=name, asname=renamed):
            return {(renamed or name).partition(".")[0]}
        case _:
            return set()
