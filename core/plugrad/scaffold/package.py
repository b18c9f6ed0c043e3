"""A new package: its files, filled from the templates. Either all of them are written or none."""

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
from plugrad.paths import read_bytes
from plugrad.scaffold.names import Names
from plugrad.scaffold.own_component import OwnComponent, literal

TEMPLATES = files("plugrad.scaffold") / "templates"
COMPONENT, ITS_TESTS = "src/{module}/{name}.py", "tests/test_{name}.py"
FILES = {
    COMPONENT: "{kind}/component.py",
    "src/{module}/__init__.py": "common/__init__.py",
    "src/{module}/py.typed": "common/py.typed",
    ITS_TESTS: "{kind}/test_component.py",
    "pyproject.toml": "common/pyproject.toml",
    "README.md": "common/README.md",
    "LICENSE": "common/LICENSE",
    ".gitignore": "common/gitignore",
    ".github/workflows/test.yml": "common/test.yml",
    ".github/workflows/publish.yml": "common/publish.yml",
}
"""The template of each file. The names in braces are `words` of `Names`."""


ABOUT_TESTS = "The tests compare `$name` with known numbers, then run the checks of every $kind."
ABOUT_OWN_TESTS = "The tests load `$name` by its name and run the checks of every $kind."
OF_A_SAMPLE = {"check_arguments": ""}


@dataclass(frozen=True)
class NewPackage:
    """A package that is not written yet."""

    names: Names
    author: str | None = None
    own: OwnComponent | None = None
    """What the user has written already. It takes the place of the sample."""
    sample: str | None = None
    """The folder of the sample's templates, if it is not that of its kind."""

    @cached_property
    def contents(self) -> dict[str, str]:
        """The text of every file that a template makes, by its path in the package's folder."""
        words = self.names.words
        files = (
            FILES
            if self.own is None
            else {p: t for p, t in (FILES | {ITS_TESTS: "own/test_component.py"}).items() if p != COMPONENT}
        )
        of_sample = {**words, "kind": self._folder}
        return {path.format(**words): self._filled(template.format(**of_sample)) for path, template in files.items()}

    @property
    def _folder(self) -> str:
        return "own" if self.own else self.sample or self.names.kind

    @cached_property
    def copied(self) -> dict[str, bytes]:
        """The user's own modules and the files that they read, by their path in the package's folder."""
        if self.own is None:
            return {}
        source, modules = f"src/{self.names.module}", self.own.modules
        code = {f"{source}/{path}": text for path, text in modules.contents(self.names.path).items()}
        data = {f"{source}/{path}": file for path, file in modules.data(self.names.path).items()} | self.own.files
        return code | {path: read_bytes(file) for path, file in data.items()}

    @property
    def files(self) -> dict[str, bytes]:
        """Every file, the component first."""
        return {**self.copied, **{path: text.encode() for path, text in self.contents.items()}}

    @cached_property
    def identifiers(self) -> set[str]:
        """Every name that the generated code uses besides the component's: modules, functions and variables."""
        other = NewPackage(Names(self.names.kind, "a_name_that_nothing_else_has"), sample=self.sample)
        nodes = (node for path, text in other.contents.items() if path.endswith(".py") for node in ast.walk(ast.parse(text)))
        return {name for node in nodes for name in _names_in(node)} - {other.names.attribute, "self"}

    def write(self, output_dir: Path) -> Path:
        """Write the package's folder into `output_dir` and return it. After a failure, nothing is left there.

        Raises:
            PluginError: the folder exists and is not empty, the name clashes with the code, or writing failed.
        """
        if self.own is None:
            self.names.check_not_among(self.identifiers)
        folder = output_dir / self.names.package
        _check_not_taken(folder)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=output_dir, prefix=".plugrad-new-") as temporary:
                made = Path(temporary) / folder.name
                for path, text in self.files.items():
                    (made / path).parent.mkdir(parents=True, exist_ok=True)
                    (made / path).write_bytes(text)
                if folder.is_dir():
                    folder.rmdir()
                made.rename(folder)
        except OSError as error:
            reason = error.strerror or error
            raise PluginError(
                f"{folder} cannot be written: {reason} ({error.filename or folder}). Nothing is left there. Choose another "
                "--output-dir."
            ) from error
        return folder

    def _filled(self, template: str) -> str:
        return Template(_template(template)).substitute(self._words)

    @cached_property
    def _words(self) -> dict[str, str]:
        words = {**self.names.words, **self._project, **(self.own.words if self.own else OF_A_SAMPLE)}
        words["about_tests"] = Template(ABOUT_OWN_TESTS if self.own else ABOUT_TESTS).substitute(words)
        snippets = {"formula": "formula.md", "run_file": "run.toml"}
        filled = {word: Template(_template(f"{self._folder}/{name}")).substitute(words) for word, name in snippets.items()}
        return {**words, **{word: text.rstrip("\n") for word, text in filled.items()}}

    @property
    def _project(self) -> dict[str, str]:
        """The lines of `pyproject.toml` that depend on who wrote what, and when."""
        summary = self.own.summary if self.own else ""
        others = sorted(self.own.modules.requirements, key=str.lower) if self.own else []
        return {
            "description": tomli_w.dumps(
                {"description": summary or f"The {self.names.kind} {self.names.name}, for plugrad"}
            ).strip(),
            "dependencies": _dependencies([core_range(__version__), *others]),
            "authors": tomli_w.dumps({"authors": [{"name": self.author}]}) if self.author else "",
        }


def core_range(version: str) -> str:
    """Return the versions of plugrad that a package written for `version` supports, such as `plugrad>=0.1,<0.2`.

    Before 1.0, a minor version may change the contract; from 1.0 on, only a major version may. PEP 440 sorts a pre-release
    before its release, so a package written with a pre-release starts there.
    """
    now = Version(version)
    begins = version if now.is_prerelease else f"{now.major}.{now.minor}"
    ends = f"{now.major}.{now.minor + 1}" if now.major == 0 else f"{now.major + 1}"
    return f"plugrad>={begins},<{ends}"


def _dependencies(requirements: list[str]) -> str:
    items = [literal(requirement) for requirement in requirements]
    lines = "".join(f"  {item},\n" for item in items)
    return f"dependencies = [\n{lines}]" if items[1:] else f"dependencies = [{items[0]}]"


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.template").read_text(encoding="utf-8")


def _check_not_taken(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    found = f"a folder with {', '.join(sorted(path.name for path in folder.iterdir())[:3])}" if folder.is_dir() else "a file"
    raise PluginError(
        f"{folder} already exists: {found}. Nothing is overwritten. Remove it, or choose another name or --output-dir."
    )


def _names_in(node: ast.AST) -> set[str]:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.alias(name=name, asname=renamed):
            return {(renamed or name).partition(".")[0]}
        case _:
            return set()
