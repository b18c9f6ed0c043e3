"""What a new package and its component are called, and the names that are refused: whose they are, and what to write."""

import pytest

from plugrad.errors import PluginError
from plugrad.registry.scan import GROUPS, scan
from plugrad.scaffold.names import LONGEST, Names
from plugrad.scaffold.package import NewPackage


def checked(name, kind="loss"):
    return Names.checked(kind, name, scan())


def test_every_name_is_made_from_one():
    names = checked("my_idea_2")
    assert (names.package, names.module, names.attribute) == ("plugrad-my-idea-2", "plugrad_my_idea_2", "my_idea_2")


@pytest.mark.parametrize(("group", "kind"), GROUPS.items())
def test_each_kind_has_its_group_and_environments_and_extensions_are_classes(group, kind):
    names = checked("my_idea_2", kind)
    assert names.group == group
    assert names.attribute == ("MyIdea2" if kind in ("environment", "extension") else "my_idea_2")


@pytest.mark.parametrize("name", ["a", "a1", "a_1", "x" * LONGEST])
def test_a_name_that_there_can_be(name):
    assert checked(name).name == name


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("My-Idea", "my_idea"),
        ("MyIdea2", "my_idea2"),
        ("my idea", "my_idea"),
        ("my.idea", "my_idea"),
        ("_idea", "idea"),
        ("idea_", "idea"),
        ("my__idea", "my_idea"),
        ("3d", "my_3d"),
        ("../idea", "idea"),
        ("idée", "idee"),
        ("KLIdea", "kl_idea"),
        ("GrößereIdee", "gro_ere_idee"),
        ("", "my_idea"),
        ("!", "my_idea"),
    ],
)
def test_another_spelling_is_answered_with_one_that_there_can_be(name, written):
    with pytest.raises(PluginError, match=r"lowercase letters, digits and single underscores") as error:
        checked(name)
    assert str(error.value).endswith(f"'{written}'.")
    assert checked(written).name == written


def test_a_long_name_is_refused():
    with pytest.raises(PluginError, match=f"has {LONGEST + 1} characters, and the limit is {LONGEST}"):
        checked("x" * (LONGEST + 1))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lambda", "a Python keyword"),
        ("match", "a Python keyword"),
        ("sum", "a Python builtin"),
        ("math", "a module of Python's standard library"),
        ("ppo_clip", "plugrad 0.1.0 has a loss of that name, and core names cannot be shadowed"),
        ("policy", "its package would be plugrad-policy, but plugrad-policy 0.1.0 is installed"),
    ],
)
def test_a_name_that_cannot_be_had_is_answered_with_why(name, what):
    with pytest.raises(PluginError, match=what) as error:
        checked(name)
    assert f"such as 'my_{name}'" in str(error.value)


def test_a_name_that_is_taken_is_answered_with_whose_it_is():
    with pytest.raises(PluginError, match=r"'gspo' is taken: plugrad-policy 0\.1\.0, installed in .*, offers a loss"):
        checked("gspo")


def test_a_name_of_another_kind_is_free():
    assert checked("gspo", "metric").name == "gspo"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("loss", "torch"),
        ("loss", "inputs"),
        ("loss", "loss"),
        ("metric", "values"),
        ("environment", "rollout"),
        ("extension", "prepared"),
    ],
)
def test_a_name_that_the_code_around_it_uses_is_refused(kind, name, tmp_path):
    with pytest.raises(PluginError, match=r"the generated code uses '\w+' for something else"):
        NewPackage(checked(name, kind)).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(PluginError, match=r"there is no kind 'losses'\. Did you mean 'loss'\?"):
        checked("my_idea", "losses")
    with pytest.raises(PluginError, match=r"Kinds: loss, advantage, metric, environment, extension\."):
        checked("my_idea", "reward_model")
