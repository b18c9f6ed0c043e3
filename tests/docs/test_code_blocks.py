"""Every code block of the README and of the documentation does what it shows, page by page, in an empty folder."""

import os
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plugrad import RunFile
from plugrad.cli.main import app
from plugrad.host.select import select
from plugrad.registry.scan import GROUPS

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", *sorted((ROOT / "plugins").glob("*/README.md"))]
PAGES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$", flags=re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->\s*$")
PRINTED_BY = re.compile(r"<!-- printed by: (?P<command>.+) -->\s*$")
FILE_NAME = re.compile(r'title="(?P<title>[^"]+)"|\A# (?P<comment>[\w.-]+\.(?:py|toml))\b')
COMMAND = re.compile(r"(?:plugrad|pip|python|pytest|git|cd) ")
SETS_UP = {
    'pip install -c constraints.txt ".[plots]" ./plugins/plugrad-example',
    "pip install -c constraints.txt . ./plugins/plugrad-example",
    "pip install . ./plugins/plugrad-compat",
    "pip install . ./plugins/plugrad-example",
    "pip install . ./plugins/plugrad-objectives",
    "pip install . ./plugins/plugrad-policy",
    "pip install plugrad plugrad-compat",
    "pip install plugrad plugrad-example",
    "pip install plugrad plugrad-objectives",
    "pip install plugrad plugrad-policy",
    "python -m pip install nox && python -m nox -s quickstart",
    "python -m pip install nox && python -m nox -s tests",
}
"""Commands that only install: the one kind of line that is not run and says no reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what it is called, what stands before it, and where it is."""

    language: str
    file_name: str | None
    body: str
    before: str
    line: int

    @property
    def not_run(self):
        return NOT_RUN.search(self.before)


def blocks_of(path):
    text = path.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        language, _, info = match["info"].partition(" ")
        body = re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        named = FILE_NAME.search(info) or FILE_NAME.search(body)
        before = text[: match.start()]
        yield Block(language, named and (named["title"] or named["comment"]), body, before, before.count("\n") + 2)


def run_python(block, namespace, page):
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec")
    exec(code, namespace)


def run_tests_in(path):
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(path.parent)]
    assert pytest.main([str(path), *options]) == pytest.ExitCode.OK, f"the tests of {path.name} do not pass"


def check_toml(block):
    tables = tomllib.loads(block.body)
    for group in tables.get("project", {}).get("entry-points", {}):
        assert group in GROUPS, f"there is no entry-point group {group}"
    if {"model", "environment"} <= tables.keys():
        select(RunFile.model_validate(tables))
    else:
        assert "project" in tables, "a block of TOML is a whole run file, or of a pyproject.toml"


def commands_of(block):
    """Yield each command with the output that is shown below it."""
    command, shown = None, []
    for line in block.body.replace("\\\n", " ").splitlines():
        typed = line.removeprefix("$ ")
        if COMMAND.match(typed) and (line != typed or block.language != "console"):
            if command:
                yield command, "\n".join(shown)
            command, shown = typed, []
        elif line.strip() and not line.startswith("#"):
            shown.append(line)
    by = PRINTED_BY.search(block.before)
    assert command or by, "the block shows no command: say <!-- printed by: plugrad ... --> before it"
    yield command or by["command"], "\n".join(shown)


def run_command(command, shown):
    if command.partition("  #")[0].strip() in SETS_UP:
        return
    program, *arguments = shlex.split(command, comments=True)
    assert program == "plugrad", f"{command!r} is not run: say why in <!-- not run: reason -->"
    result = CliRunner().invoke(app, arguments)
    printed = result.stdout + "\n" + result.stderr
    expected = 2 if re.search(r"^\w*Error: ", shown, flags=re.MULTILINE) else 0
    assert result.exit_code == expected, f"{command}: exit code {result.exit_code}\n{printed}\n{result.exception!r}"
    assert_prints(shown, printed, command)


def assert_prints(shown, printed, command):
    """Check that all that is shown is printed, in its order; `...` stands for anything."""
    rest = " ".join(printed.split())
    for piece in filter(None, (" ".join(part.split()) for part in shown.split("..."))):
        assert piece in rest, f"{command} does not print {piece!r}:\n{printed}"
        rest = rest.partition(piece)[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_blocks_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for block in blocks_of(page):
        run_block(block, namespace, page)


def run_block(block, namespace, page):
    if block.file_name:
        Path(block.file_name).write_text(block.body, encoding="utf-8")
    if block.language == "toml":
        check_toml(block)
    elif block.not_run or block.language == "text":
        return
    elif block.language == "python" and (block.file_name or "").startswith("test_"):
        run_tests_in(Path(block.file_name))
    elif block.language == "python" and not block.file_name:
        run_python(block, namespace, page)
    elif block.language in ("sh", "console", ""):
        for command, shown in commands_of(block):
            run_command(command, shown)
    else:
        assert block.file_name, f"{page.name}, line {block.line}: what is a block of {block.language!r}?"


def test_every_command_that_is_not_run_is_still_shown():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [command for command in SETS_UP if command not in text] == []


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```python\nassert 1 == 2\n```", AssertionError),
        ("```console\n$ plugrad --version\nplugrad 9.9\n```", "does not print"),
        ("```console\n$ plugrad plugins show nothing\n```", "exit code 2"),
        ("```console\n$ plugrad --version\nThisError: was shown\n```", "exit code 0"),
        ("```sh\npip install something\n```", "not run: say why"),
        ("```\nSomething that is printed.\n```", "shows no command"),
        ('```toml\n[project.entry-points."plugrad.loses"]\n```', "no entry-point group"),
        ("```toml\n[optimizer]\nlr = 1.0\n```", "a whole run file"),
        ("```rust\nfn main() {}\n```", "what is a block"),
        ('```python title="test_it.py"\ndef test_it():\n    raise ValueError\n```', "the tests of test_it.py do not pass"),
    ],
)
def test_a_block_that_is_wrong_is_found(block, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(block + "\n")
    (found,) = blocks_of(tmp_path / "page.md")
    kind, message = (complaint, None) if isinstance(complaint, type) else (AssertionError, complaint)
    with pytest.raises(kind, match=message):
        run_block(found, {}, tmp_path / "page.md")
