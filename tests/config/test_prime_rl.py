"""The blocks that people coming from prime-rl have."""

import pytest

from plugrad import RunFile, RunFileError

TABLES = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}}


def test_a_custom_loss_is_a_reference(read):
    run_file = read('[loss]\ntype = "custom"\nimport_path = "my_package.losses.ppo_clip_loss"\nkwargs = { clip_eps = 0.2 }')
    assert [(loss.name, loss.kwargs) for loss in run_file.loss] == [("my_package.losses:ppo_clip_loss", {"clip_eps": 0.2})]


@pytest.mark.parametrize(
    "table",
    [
        {"type": "custom", "path": "mine.f"},
        {"path": "mine.f"},
        {"import_path": "mine.f"},
        {"import_path": "mine:f"},
        {"import_path": "mine.f", "path": "ignored.g"},
    ],
)
@pytest.mark.parametrize("kind", ["loss", "advantage"])
def test_older_and_shorter_forms(kind, table):
    run_file = RunFile(**TABLES, **{kind: table})
    assert (run_file.loss[0] if kind == "loss" else run_file.advantage).name == "mine:f"


def test_default_is_our_counterpart():
    run_file = RunFile(**TABLES, loss={"type": "default", "kwargs": {"kl_tau": 0.1}}, advantage={"type": "default"})
    assert (run_file.loss[0].name, run_file.loss[0].kwargs) == ("importance_sampling", {"kl_tau": 0.1})
    assert run_file.advantage.name == "group_mean"


def test_several_losses_are_read_each(read):
    run_file = read("[[loss]]\nimport_path = 'mine.f'\nweight = 0.5\n[[loss]]\nname = 'ppo_clip'")
    assert [(loss.name, loss.weight) for loss in run_file.loss] == [("mine:f", 0.5), ("ppo_clip", 1.0)]


@pytest.mark.parametrize(
    "table", ["type = 'grpo'", "type = 'custom'", "type = 'custom'\nimport_path = 3", "type = 'default'\npath = 'a.b'"]
)
def test_another_type_shows_what_to_write(read, table):
    with pytest.raises(RunFileError, match=r"\[advantage\] type = .*: write type = \"custom\" with import_path = "):
        read(f"[advantage]\n{table}")


def test_a_path_without_a_module_shows_what_to_write(read):
    with pytest.raises(RunFileError, match=r"\[loss\] import_path = 'f': write \"module\.function\""):
        read("[loss]\nimport_path = 'f'")


def test_a_name_and_a_type_are_two_answers(read):
    with pytest.raises(RunFileError, match=r"\[loss\] has no key 'type'"):
        read("[loss]\nname = 'ppo_clip'\ntype = 'custom'")


def test_the_callers_tables_are_left_alone():
    tables = {**TABLES, "loss": {"type": "custom", "import_path": "mine.f"}}
    assert RunFile(**tables).loss[0].name == "mine:f"
    assert tables["loss"] == {"type": "custom", "import_path": "mine.f"}
