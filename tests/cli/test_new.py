"""`plugrad new`: what it prints, and how it answers what cannot be."""

import shlex

import pytest

from plugrad.registry.scan import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_it_wrote_and_what_comes_next(plugrad, folder, kind):
    done = plugrad("new", kind, "my_idea")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Wrote plugrad-my-idea:"
    listed = [line.split()[0] for line in lines[1 : lines.index("")]]
    made = folder / "plugrad-my-idea"
    assert sorted(listed) == sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
    assert lines[-2:] == ["    pip install -e ./plugrad-my-idea pytest", "    pytest ./plugrad-my-idea"]


def test_the_commands_quote_a_folder_with_a_space(plugrad, folder):
    for where in ("my plugins", str(folder / "their plugins")):
        done = plugrad("new", "loss", "my_idea", "--output-dir", where)
        assert (folder / where / "plugrad-my-idea" / "pyproject.toml").is_file()
        (_, _, _, path, _), (_, again) = map(shlex.split, done.stdout.splitlines()[-2:])
        assert path == again
        assert (folder / path).samefile(folder / where / "plugrad-my-idea")


def test_an_author(plugrad, folder):
    plugrad("new", "loss", "my_idea", "--author", "Ada Lovelace")
    assert '{ name = "Ada Lovelace" }' in (folder / "plugrad-my-idea" / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("loss", "my_idea", "--turns"), "--turns is for an environment"),
        (("los", "my_idea"), "there is no kind 'los'. Did you mean 'loss'?"),
        (("loss", "My-Idea"), "Write 'my_idea'."),
        (("loss", "ppo_clip"), "core names cannot be shadowed"),
        (("loss", "soft_clip"), "plugrad-example 0.1.0"),
        (("loss", "torch"), "the generated code uses 'torch'"),
    ],
)
def test_what_cannot_be_is_bad_input_and_writes_nothing(plugrad, folder, arguments, said):
    before = sorted(folder.iterdir())
    done = plugrad("new", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("PluginError: ")
    assert said in done.stderr
    assert sorted(folder.iterdir()) == before


def test_nothing_is_overwritten(plugrad):
    assert plugrad("new", "loss", "my_idea").returncode == 0
    again = plugrad("new", "metric", "my_idea")
    assert again.returncode == 2
    assert "plugrad-my-idea already exists" in again.stderr


def test_what_it_wrote_can_be_used_before_it_is_installed(plugrad, folder):
    plugrad("new", "loss", "my_idea")
    reference = "./plugrad-my-idea/src/plugrad_my_idea/my_idea.py:my_idea"
    assert plugrad("train", "run.toml", "--set", f"loss.name={reference}").returncode == 0
