"""Everything that a user can write or read has an entry in the documentation, and the entry says what it means."""

import dataclasses
import importlib
import importlib.util
import inspect
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pluggy
import pytest
import typer
from pydantic import BaseModel

import plugrad
from plugrad import RunFile, hookspecs
from plugrad.cli.main import app
from plugrad.contracts.markers import REDUCTIONS
from plugrad.registry.options import options_of
from plugrad.registry.resolve import load, resolve
from plugrad.registry.scan import CORE, GROUPS, scan
from plugrad.testing.portable import PORTABLE

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^#+ (.*)$")
HEADING_OF = {kind: group.removeprefix("plugrad.").capitalize() for group, kind in GROUPS.items()}
CELLS = re.compile(r"(?<!\\)\|")


@cache
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def page(name):
    return reference().filled((ROOT / "docs" / name).read_text(encoding="utf-8"))


@cache
def entries(name):
    """Return the rows of the tables of a page: by heading, and then by their first cell, the last one."""
    found, heading = {}, ""
    for line in page(name).splitlines():
        if match := HEADING.match(line):
            heading = match[1].replace("`", "")
        elif line.startswith("| "):
            cells = [cell.strip() for cell in CELLS.split(line)[1:-1]]
            found.setdefault(heading, {})[cells[0].strip("`")] = cells[-1]
    return found


def assert_explained(name, heading, wanted):
    rows = entries(name).get(heading, {})
    for entry in wanted:
        assert entry in rows, f"docs/{name} has no entry {entry!r} under {heading!r}"
        assert len(rows[entry].split()) > 1 or rows[entry].strip("`&;.") not in ("", "ndash"), f"{entry!r} says nothing"


def tables(model, title=""):
    """Yield every table of the run file with its dotted name and its plain keys."""
    inner = {}
    for key, field in model.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if inspect.isclass(part) and issubclass(part, BaseModel):
                inner[key] = part
    called = {key: f"{key}.NAME" if get_origin(model.model_fields[key].annotation) is dict else key for key in inner}
    yield title, set(model.model_fields) - set(inner)
    for key, table in inner.items():
        yield from tables(table, f"{title}.{called[key]}".strip("."))


@pytest.mark.parametrize(("title", "keys"), list(tables(RunFile)), ids=lambda value: value if isinstance(value, str) else "")
def test_every_key_of_the_run_file(title, keys):
    headings = [heading for heading in entries("run-file.md") if heading.strip("[]") == (title or "Top level")]
    assert len(headings) == 1, f"docs/run-file.md has not one table of keys for {title!r}"
    assert_explained("run-file.md", headings[0], keys)


CONTRACTS = [
    name for name in plugrad.__all__ if dataclasses.is_dataclass(getattr(plugrad, name)) and not name.startswith("Loaded")
] + ["Rollout"]


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_field_of_a_contract(name):
    assert_explained("contracts.md", name, get_type_hints(getattr(plugrad, name)))


@pytest.mark.parametrize("name", ["Environment", "plugrad.load"])
def test_methods_of_an_environment_and_properties_of_a_loaded_loss(name):
    wanted = {"Environment": ["train_examples()", "eval_examples()", "score(rollouts)"]}
    assert_explained("contracts.md", name, wanted.get(name, ["needs", "reduction", "options"]))


@pytest.mark.parametrize("name", ["loss", "advantage", "metric", "plugrad.load", "plugrad.train"])
def test_every_argument_of_a_marker_or_function(name):
    heading = name if "." in name else f"@{name}"
    function = getattr(plugrad, name.removeprefix("plugrad."))
    # What a decorator decorates is no argument that anybody writes.
    assert_explained("contracts.md", heading, inspect.signature(function).parameters.keys() - {"plugin"})


def test_every_public_name():
    assert_explained("contracts.md", "Every public name", [f"plugrad.{name}" for name in plugrad.__all__])


def all_hooks():
    manager = pluggy.PluginManager("plugrad")
    manager.add_hookspecs(hookspecs)
    return {name: hook.spec.argnames for name, hook in vars(manager.hook).items() if not name.startswith("_")}


@pytest.mark.parametrize(("name", "arguments"), all_hooks().items())
def test_every_hook(name, arguments):
    assert len(all_hooks()) >= len(hookspecs.COMPUTING_HOOKS) + 4
    section = page("write/extension.md").partition(f"### `{name}`")[2].partition("\n### ")[0]
    for part in ("When", "Core", "An extension can", "Written with"):
        assert re.search(rf"^- \*\*{part}\*\*: \S+", section, flags=re.MULTILINE), f"{name}: nothing about {part!r}"
    for argument in arguments:
        assert f"{argument}: " in section, f"{name}: its argument {argument} is not shown"


def below(path, command):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from below(f"{path} {name}", inner)


@pytest.mark.parametrize(("path", "command"), list(below("plugrad", typer.main.get_command(app))), ids=str)
def test_every_command_and_option(path, command):
    assert f"### `{path}`" in page("commands.md"), f"docs/commands.md has no command {path!r}"
    rows = {entry.split(" ")[0]: meaning for entry, meaning in entries("commands.md").get(path, {}).items()}
    for parameter in command.params:
        for spelling in parameter.opts if parameter.opts[0].startswith("-") else [parameter.name.upper()]:
            assert spelling == "--help" or rows.get(spelling), f"{path} {spelling} has no entry with a meaning"


@pytest.mark.parametrize("entry", [e for e in scan().entries if e.package == CORE], ids=lambda e: f"{e.kind}-{e.name}")
def test_every_option_of_a_component_of_core(entry):
    source = resolve(entry.kind, f"{CORE}/{entry.name}", scan())
    options = [option.name for option in options_of(source, load(source))]
    title = HEADING_OF[entry.kind]
    section = page("plugins.md").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert f"### `{entry.name}`" in section, f"docs/plugins.md has no {entry.kind} {entry.name!r}"
    described = section.partition(f"### `{entry.name}`")[2].partition("\n### ")[0]
    for option in options:
        assert re.search(rf"^\| `{option}` \|.*\| .*\w.* \|$", described, flags=re.MULTILINE), f"{entry.name}: {option}"


def test_every_number_that_core_reports(run):
    losses, metrics, extensions = (
        [entry.name for entry in scan().of_kind(kind) if entry.package == CORE] for kind in ("loss", "metric", "extension")
    )
    tables = {"loss": [{"name": name} for name in losses], "extension": [{"name": name} for name in extensions]}
    result = run(**tables, metrics=metrics, evaluation={"every_steps": 1})
    rows = {name for section in entries("plugins.md").values() for name in section}
    rows |= set(entries("questions.md")["What is in metrics.jsonl?"])
    losses_named = "|".join(losses)
    for name in result.records[-1]:
        general = re.sub(rf"^timing/(\w+)/({losses_named})_s$", r"timing/\1/NAME_s", name)
        general = re.sub(r"^\w+/loss$", "NAME/loss", general)
        # A metric says the same of held-out completions.
        general = re.sub(r"^eval/(\w+/)", r"\1", general)
        assert general in rows, f"metrics.jsonl has {name!r}, and no page says what it is"


def test_numbers_that_the_pages_name_are_reported(run):
    """A page must not send its reader to a number that does not exist."""
    reported = {name for section in entries("plugins.md").values() for name in section if "/" in name}
    reported |= set(entries("questions.md")["What is in metrics.jsonl?"])
    kinds = "|".join({name.partition("/")[0] for name in reported if "/" in name})
    named = set(re.findall(rf"`((?:{kinds})/\w+)`", (ROOT / "docs" / "questions.md").read_text()))
    assert len(named) > 10
    assert named <= reported


@cache
def source_of_core():
    """Return the text of core, with strings that continue on the next line put together."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "core").rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize("error", entries("questions.md")["What does this error mean?"])
def test_an_error_of_the_faq_can_be_raised(error):
    """Its class exists, and its words are in a message: a reader searches for what was printed."""
    if error == "error" or set(error) == {"-"}:
        return
    name, _, message = error.partition(": ")
    assert hasattr(plugrad, name)
    fixed = [part.strip() for part in re.split(r"\.\.\.|'\w+'| = \d+|\d+ s\b|\b(?:two|nan)\b", message)]
    assert [part for part in fixed if part and part not in source_of_core()] == []


def test_every_reduction_has_a_formula():
    rows = entries("mathematics.md")["The five reductions"]
    assert {entry.split("`")[0] for entry in rows} >= set(REDUCTIONS)


def test_every_layer_is_in_the_table():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    for module in " | ".join(layers).split(" | "):
        assert f"| `{module.removeprefix('plugrad.')}` | " in page("architecture.md")


PATH = re.compile(r"(?<![\w/.-])(?:[\w-]+/)+(?:[\w.-]+\.\w+)?(?![\w/])|(?<![\w/.-])\w+\.pyi?\b")


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_a_path_that_leads_through_the_code_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.partition("## Where a change goes")[2].partition("\n## ")[0] or text
    named = {code for code in re.findall(r"`([^`\n]+)`", text) if PATH.fullmatch(code)}
    named |= {path for block in re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL) for path in PATH.findall(block)}
    assert len(named) > 30
    places = (ROOT / "core" / "plugrad", ROOT)
    assert [path for path in sorted(named) if not any((place / path).exists() for place in places)] == []


def test_every_folder_of_core_and_every_room_of_the_trainer_is_on_the_page_about_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    core = ROOT / "core" / "plugrad"
    folders = [path.parent for path in [*core.glob("*/__init__.py"), *(core / "trainer").glob("*/__init__.py")]]
    assert len(folders) > 12
    assert [str(folder.relative_to(core)) for folder in folders if f"`{folder.relative_to(core)}/`" not in text] == []


def test_every_nox_session():
    sessions = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE)
    assert len(sessions) > 10
    assert {f"nox -s {name}" for name in sessions} <= set(entries("../CONTRIBUTING.md")["Set-up"])


def test_the_reference_in_the_pages_is_what_the_code_says():
    outdated = [str(path.relative_to(ROOT)) for path in reference().outdated()]
    assert outdated == [], f"outdated: {', '.join(outdated)}. To renew the reference: nox -s reference"


def test_a_part_of_the_reference_is_written_between_its_marks_and_nothing_else_is_touched():
    filled, end = reference().filled, reference().END
    begin = "<!-- reference: promises version -->"
    empty, other = f"Before.\n\n{begin}\n\nAfter.\n", f"{begin}\n\nsomething old\n\n{end}\n"
    once = filled(empty)
    assert once.startswith(f"Before.\n\n{begin}\n\nThis is version ")
    assert once.endswith(f".\n\n{end}\n\nAfter.\n")
    assert filled(once) == once
    both = filled(empty + "\n" + other)
    assert both.startswith(once)
    assert both.count(end) == 2
    assert "old" not in both


@pytest.mark.parametrize(
    ("placeholder", "complaint"),
    [
        ("<!-- reference: nothing -->", "no such reference"),
        ("<!-- reference: contract Undocumented -->", "no docstring below"),
    ],
)
def test_what_has_no_docstring_is_an_error_of_the_build(placeholder, complaint, monkeypatch):
    monkeypatch.setitem(vars(plugrad), "Undocumented", Undocumented)
    with pytest.raises(ValueError, match=complaint):
        reference().filled(placeholder)


class Undocumented:
    field: int


def test_a_link_to_a_file_that_is_not_there_is_an_error_of_the_build():
    with pytest.raises(ValueError, match="is not there"):
        reference().within_site("[a page](nowhere.md)", "index.md")


def test_links_out_of_the_site_become_text_and_those_of_an_included_page_lead_back():
    within_site = reference().within_site
    assert within_site("[run](run-file.md#names) [nox](../noxfile.py)", "index.md") == "[run](run-file.md#names) nox"
    assert within_site("[how](docs/architecture.md) [read](README.md)", "changelog.md") == "[how](architecture.md) read"
    code = "```python\ncalls[name](inputs)\n```"
    assert within_site(code, "index.md") == code


@pytest.mark.parametrize("kind", ["loss", "advantage", "metric", "environment", "extension", "engine"])
def test_every_promise_of_the_kit(kind):
    homes = {"loss": "losses"}
    promises = importlib.import_module(f"plugrad.testing.{homes.get(kind, kind + 's')}").PROMISES
    heading = homes.get(kind, kind + "s").capitalize()
    own = [promise.name for promise in promises if promise not in PORTABLE]
    assert len(own) >= 8
    assert_explained("conformance.md", heading, own)
    assert_explained("conformance.md", "Of every kind", [promise.name for promise in PORTABLE])
