"""An arm's run file: what it changes, and what belongs to a component that it does not have."""

import tomllib

import pytest

from plugrad.compare.arms import arms_of
from plugrad.compare.run_files import BaseRunFile, notices_of
from plugrad.errors import RunFileError
from plugrad.registry.scan import scan

RUN_FILE = """
seed = 7
[model.from_scratch]
model_type = "qwen3"
[environment]
name = "arithmetic"
[loss]
name = "ppo_clip"
kwargs = { clip_eps = 0.1 }
reduction = "sequence"
weight = 2.0
[advantage]
name = "group_normalized"
kwargs = { eps = 0.1 }
"""


@pytest.fixture
def arms(tmp_path):
    """Read the run files of all arms, and what was left out of each."""

    def read(varied=(), written=(), text=RUN_FILE):
        base = BaseRunFile(tmp_path / "run.toml", tomllib.loads(text), scan())
        return {arm.name: base.of_arm(arm) for arm in arms_of(varied, written)}

    return read


def test_another_loss_does_not_get_the_options_and_the_reduction_of_the_one_before(arms):
    found = arms(["loss.name=ppo_clip,plugrad/ppo_clip,importance_sampling"])
    for same in ("ppo_clip", "plugrad/ppo_clip"):
        run_file, left_out = found[same]
        assert (run_file.loss[0].kwargs, run_file.loss[0].reduction, left_out) == ({"clip_eps": 0.1}, "sequence", [])
    run_file, left_out = found["importance_sampling"]
    assert (run_file.loss[0].kwargs, run_file.loss[0].reduction) == ({}, None)
    # Its weight in the objective is the objective's.
    assert run_file.loss[0].weight == 2.0
    assert run_file.advantage.kwargs == {"eps": 0.1}
    (notice,) = notices_of({"importance_sampling": left_out, "other": left_out, "ppo_clip": []})
    assert "The kwargs and reduction of [loss] belong to 'ppo_clip'" in notice
    assert "and do not apply to: importance_sampling, other." in notice


def test_another_advantage_does_not_get_the_options_of_the_one_before(arms):
    run_file, left_out = arms(["advantage.name=group_mean"])["group_mean"]
    assert run_file.advantage.kwargs == {}
    assert [part.owner for part in left_out] == ["group_normalized"]
    assert run_file.loss[0].kwargs == {"clip_eps": 0.1}


def test_an_arm_keeps_its_own_options_in_whatever_order_they_stand(arms):
    written = [
        "a: loss.kwargs.kl_tau=0.5 loss.name=importance_sampling",
        "b: loss.name=importance_sampling loss.kwargs.kl_tau=0.5",
    ]
    found = arms(written=written)
    for name in ("a", "b"):
        assert found[name][0].loss[0].kwargs == {"kl_tau": 0.5}
    assert found["run-file"][0].loss[0].kwargs == {"clip_eps": 0.1}


def test_an_option_alone_is_added_to_those_of_the_run_file(arms):
    found = arms(["loss.kwargs.clip_eps_high=0.2,0.3"])
    assert [run_file.loss[0].kwargs for run_file, _ in found.values()] == [
        {"clip_eps": 0.1, "clip_eps_high": 0.2},
        {"clip_eps": 0.1, "clip_eps_high": 0.3},
    ]


def test_one_of_several_losses_is_changed_and_the_others_stay(arms):
    two = RUN_FILE.replace("[loss]", "[[loss]]") + "[[loss]]\nname = 'kl_to_reference'\nkwargs = { estimator = 'k1' }\n"
    run_file, _ = arms(["loss.0.name=importance_sampling"], text=two)["importance_sampling"]
    assert [(loss.name, loss.kwargs) for loss in run_file.loss] == [
        ("importance_sampling", {}),
        ("kl_to_reference", {"estimator": "k1"}),
    ]


def test_a_block_of_prime_rl_is_one_of_ours_before_it_is_changed(arms):
    block = '[loss]\ntype = "custom"\nimport_path = "my_module.ppo"\nkwargs = { eps = 1 }\n'
    text = RUN_FILE.partition("[loss]")[0] + block
    run_file, left_out = arms(["loss.name=ppo_clip"], text=text)["ppo_clip"]
    assert (run_file.loss[0].name, run_file.loss[0].kwargs) == ("ppo_clip", {})
    assert [part.owner for part in left_out] == ["my_module:ppo"]


def test_options_of_a_loss_that_is_not_named_are_those_of_the_default(arms):
    text = RUN_FILE.partition("[loss]")[0] + "[loss]\nkwargs = { kl_tau = 0.5 }\n"
    found = arms(["loss.name=importance_sampling,ppo_clip"], text=text)
    assert found["importance_sampling"][0].loss[0].kwargs == {"kl_tau": 0.5}
    assert found["ppo_clip"][0].loss[0].kwargs == {}


def test_one_arm_does_not_change_the_next(arms):
    found = arms(written=["a: optimizer.lr=0.5", "b: max_steps=3"])
    assert (found["b"][0].optimizer.lr, found["b"][0].max_steps) == (1e-5, 3)


def test_an_override_that_cannot_be_says_which_option_it_was_given_with(arms):
    with pytest.raises(RunFileError, match=r"--vary 'seed.x=1': seed is 7, not a table"):
        arms(["seed.x=1"])


def test_arms_may_differ_in_their_adapter_or_have_none(arms):
    adapted = RUN_FILE + "[model.lora]\nr = 4\n"
    found = arms(["model.lora.r=2,8"], text=adapted)
    assert {name: run_file.model.lora.r for name, (run_file, _) in found.items()} == {"r=2": 2, "r=8": 8}
    found = arms(["loss.name=ppo_clip,importance_sampling"], ['all: model={name="base"}'], text=adapted)
    assert {name: bool(run_file.model.lora) for name, (run_file, _) in found.items()} == {
        "ppo_clip": True,
        "importance_sampling": True,
        "all": False,
    }
