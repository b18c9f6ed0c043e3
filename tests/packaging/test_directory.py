"""`nox -s directory`, on packages that are written here: one with a fault, and one that declares it."""

from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "docs" / "check_directory.py"
ENTRY = """
[[package]]
name = "plugrad-{name}"
kinds = ["{kind}"]
summary = "{summary}"
install = "plugrad-{name} @ {address}"
links = {{ source = "https://example.org/{name}" }}
"""
DECLARED = """
[package.check."advantage/of_all"]
options = { limit = 0.5 }
expected_failures = { groups_apart = "its baseline is of all groups", nan_reward = "its baseline is of all groups" }
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def listed(environment, tmp_path):
    """Write a package and an entry about it."""

    def add(kind, name, *, summary=None, change=("", ""), more=""):
        environment.succeed("-m", "plugrad", "new", kind, name, cwd=tmp_path)
        package = name.replace("_", "-")
        folder = tmp_path / f"plugrad-{package}"
        component = folder / "src" / f"plugrad_{name}" / f"{name}.py"
        text = component.read_text(encoding="utf-8")
        assert change[0] in text
        component.write_text(text.replace(*change), encoding="utf-8")
        told = summary or f"The {kind} {name}, for plugrad"
        entry = ENTRY.format(name=package, kind=kind, summary=told, address=folder.as_uri())
        with (tmp_path / "plugins.toml").open("a", encoding="utf-8") as file:
            file.write(entry + more)

    return add


def run(environment, tmp_path, *names):
    # hatchling is among what is installed here, and pip reads this as the option's value.
    return environment.call(CHECK, tmp_path / "plugins.toml", *names, cwd=tmp_path, PIP_NO_BUILD_ISOLATION="0")


def row(printed, beginning):
    """Return the first row of the table that begins so."""
    lines = (" ".join(line.split()) for line in printed.splitlines())
    return next(line for line in lines if line.startswith(beginning))


def test_each_package_is_installed_and_checked_and_removed(environment, listed, tmp_path):
    leak = ("mean(dim=1, keepdim=True)", "mean()")
    listed("advantage", "leaking", change=leak, summary="Something else")
    listed("advantage", "of_all", change=leak, more=DECLARED)
    code, printed = run(environment, tmp_path)
    assert code == 1, printed
    assert " failed summary: the entry says 'Something else'" in row(printed, "plugrad-leaking 0.1.0 failed")
    assert " failed " in row(printed, "plugrad-leaking 0.1.0 advantage/leaking")
    assert " failed, as declared" in row(printed, "plugrad-of-all 0.1.0 advantage/of_all ok")
    assert "groups_apart a group's advantages depend on no other group" in " ".join(printed.split())
    assert environment.call("-m", "pip", "show", "plugrad-of-all", cwd=tmp_path)[0] == 1
    assert run(environment, tmp_path, "plugrad-of-all")[0] == 0


def test_a_package_that_is_not_listed_is_an_error(environment, listed, tmp_path):
    listed("advantage", "a_good")
    code, printed = run(environment, tmp_path, "plugrad-b")
    assert code == 2
    assert "plugins.toml has no plugrad-b. It has plugrad-a-good." in printed


def test_a_package_that_cannot_be_installed_is_said_to_be_so(environment, tmp_path):
    entry = ENTRY.format(name="a", kind="loss", summary="x", address=(tmp_path / "nowhere").as_uri())
    (tmp_path / "plugins.toml").write_text(entry)
    code, printed = run(environment, tmp_path)
    assert code == 1
    assert "pip install 'plugrad-a @ file://" in printed
    assert "failed" in printed
