"""Overrides: `--set table.key=value`."""

import pytest

from plugrad import RunFileError

TWO_LOSSES = "[[loss]]\nname = 'ppo_clip'\n[[loss]]\nname = 'kl_to_reference'\n"


def test_an_override_replaces_what_the_file_says(read):
    run_file = read("seed = 1\nmax_steps = 7", "seed=2", "rollout.max_new_tokens=5")
    assert (run_file.seed, run_file.max_steps, run_file.rollout.max_new_tokens) == (2, 7, 5)


def test_the_last_of_two_overrides_wins(read):
    assert read("", "seed=2", "seed=3").seed == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-4", 1e-4),
        ("3", 3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("{ a = 1 }", {"a": 1}),
        ("'quoted'", "quoted"),
        ("bare words", "bare words"),
        ("a/path.py:f", "a/path.py:f"),
        (" spaced ", "spaced"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_values_are_toml_and_strings_need_no_quotes(read, text, value):
    found = read("[loss]\nname = 'a'", f"loss.kwargs.option={text}").loss[0].kwargs["option"]
    assert found == value
    assert type(found) is type(value)


def test_a_single_table_of_a_list_needs_no_number(read):
    assert read("[[loss]]\nname = 'ppo_clip'", "loss.kwargs.clip_eps=0.1").loss[0].kwargs == {"clip_eps": 0.1}


def test_a_table_that_is_not_there_is_made(read):
    run_file = read("", "optimizer.lr=0.5", "environment.kwargs.digits=3", "loss.name=ppo_clip")
    assert (run_file.optimizer.lr, run_file.environment.kwargs) == (0.5, {"digits": 3})
    assert [loss.name for loss in run_file.loss] == ["ppo_clip"]


def test_one_of_several_tables_is_chosen_by_number_or_name(read):
    run_file = read(TWO_LOSSES, "loss.0.weight=2.0", "loss.kl_to_reference.weight=0.5", "loss.1.kwargs.estimator=k1")
    assert [(loss.weight, loss.kwargs) for loss in run_file.loss] == [(2.0, {}), (0.5, {"estimator": "k1"})]


@pytest.mark.parametrize("key", ["loss.weight", "loss.kwargs.clip_eps", "loss.2.weight", "loss.gspo.weight"])
def test_several_tables_must_be_told_apart(read, key):
    with pytest.raises(RunFileError) as caught:
        read(TWO_LOSSES, f"{key}=2.0")
    assert str(caught.value) == (
        f"--set '{key}=2.0': there are 2 [[loss]] tables. Select one by number or name: "
        "loss.0 (ppo_clip), loss.1 (kl_to_reference)."
    )


@pytest.mark.parametrize("key", ["seed.x", "seed.x.y"])
def test_a_value_is_not_a_table(read, key):
    with pytest.raises(RunFileError, match=rf"--set '{key}=1': seed is 3, not a table"):
        read("seed = 3", f"{key}=1")


@pytest.mark.parametrize(
    "key", ["optimizer.betas.x", "optimizer.betas.0", "optimizer.betas.0.x", "metrics.x", "metrics.0.x"]
)
def test_a_list_of_values_is_no_list_of_tables(read, key):
    with pytest.raises(RunFileError, match=r"(optimizer\.betas|metrics).* not a table"):
        read("metrics = ['reward']\noptimizer = { betas = [0.5, 0.75] }", f"{key}=1")


@pytest.mark.parametrize("override", ["seed", "=3", "loss..name=a", ".seed=3", "loss.=a", ""])
def test_a_malformed_override_shows_how_to_write_one(read, override):
    with pytest.raises(RunFileError, match=r"write --set table\.key=value, as in --set loss\.kwargs\.clip_eps=0\.1"):
        read("", override)


def test_an_override_is_checked_like_the_file(read):
    with pytest.raises(RunFileError, match=r"\[rollout\] has no key 'num_tokens'\."):
        read("", "rollout.num_tokens=3")
    with pytest.raises(RunFileError, match=r"max_steps: .* It is 'many'\."):
        read("", "max_steps=many")


@pytest.mark.parametrize(
    ("override", "place"),
    [
        (
            "trainer.policy.optimizer_config.lr=1e-6",
            r"SkyRL's trainer\.policy\.optimizer_config\.lr is optimizer\.lr here\.",
        ),
        ("environment.env_class=aime", r"SkyRL's environment\.env_class is environment\.name here\."),
    ],
)
def test_an_override_of_another_system_names_the_key_here(read, override, place):
    with pytest.raises(RunFileError, match=place):
        read("", override)
