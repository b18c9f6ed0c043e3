"""`plugrad.load`: a component for anybody's own training loop."""

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, BatchLossInputs, ContractError, LossInputs, MetricInputs, OptionError, PluginError
from plugrad.testing import checks_of

# pi / pi_old is 1, 2 and 1/4.
PI, OLD = torch.tensor([0.5, 0.5, 0.1]).log(), torch.tensor([0.5, 0.25, 0.4]).log()
EVERY = torch.ones(3, dtype=torch.bool)


def metric_inputs(**changes):
    given = {
        "rollouts": [],
        "rewards": torch.zeros(1),
        "advantages": torch.ones(1, 3),
        "loss_mask": EVERY[None],
        "trainer_logprobs": PI[None],
        "inference_logprobs": OLD[None],
        "group_ids": torch.zeros(1, dtype=torch.long),
    }
    return MetricInputs(**{**given, **changes})


def test_a_loss_takes_one_sequence():
    ppo_clip = plugrad.load("loss", "ppo_clip", clip_eps=0.5)
    outputs = ppo_clip(
        LossInputs(trainer_logprobs=PI, inference_logprobs=PI, advantages=torch.ones(3), loss_mask=EVERY, old_logprobs=OLD)
    )
    assert outputs.loss.shape == ()
    assert outputs.loss.item() == pytest.approx(-(1 + 1.5 + 0.25))
    assert outputs.metrics["clip_fraction"].value() == pytest.approx(1 / 3)


def test_a_loss_takes_a_batch():
    ppo_clip = plugrad.load("loss", "ppo_clip", clip_eps=0.5)
    logprobs, old = PI.repeat(2, 1), OLD.repeat(2, 1)
    mask = torch.stack([EVERY, EVERY])
    outputs = ppo_clip(
        BatchLossInputs(
            trainer_logprobs=logprobs,
            inference_logprobs=logprobs,
            advantages=torch.ones(2, 3),
            loss_mask=mask,
            old_logprobs=old,
        )
    )
    torch.testing.assert_close(outputs.loss, torch.tensor([[-1.0, -1.5, -0.25]] * 2))


def test_only_counted_tokens_of_a_sequence_are_summed():
    nll = plugrad.load("loss", "cross_entropy")
    mask = torch.tensor([False, True, False])
    leaf = PI.clone().requires_grad_()
    outputs = nll(LossInputs(trainer_logprobs=leaf, inference_logprobs=PI, advantages=torch.ones(3), loss_mask=mask))
    assert outputs.loss.item() == pytest.approx(-PI[1].item())
    outputs.loss.backward()
    assert leaf.grad.tolist() == [0.0, -1.0, 0.0]


@pytest.mark.parametrize("form", ["LossInputs", "BatchLossInputs"])
def test_a_loss_of_either_form_takes_either_form(write, tmp_path, monkeypatch, form):
    write(
        "mine.py",
        f"""
        from plugrad import {form}, LossOutputs

        def reinforce(inputs: {form}, scale: float = 1.0):
            return LossOutputs(-scale * inputs.advantages * inputs.trainer_logprobs)
        """,
    )
    monkeypatch.chdir(tmp_path)
    reinforce = plugrad.load("loss", "mine.py:reinforce", scale=2.0)
    mask, advantages = torch.tensor([False, True, True]), torch.tensor([9.0, 1.0, -1.0])
    one = reinforce(LossInputs(trainer_logprobs=PI, inference_logprobs=PI, advantages=advantages, loss_mask=mask))
    assert one.loss.item() == pytest.approx(-2 * (PI[1] - PI[2]).item())
    rows = reinforce(
        BatchLossInputs(
            trainer_logprobs=PI[None], inference_logprobs=PI[None], advantages=advantages[None], loss_mask=mask[None]
        )
    )
    torch.testing.assert_close(rows.loss, -2 * (advantages * PI * mask)[None])


def test_a_loaded_loss_says_what_it_needs_and_takes():
    loaded = plugrad.load("loss", "ppo_clip", clip_eps=0.5)
    assert (loaded.needs, loaded.reduction) == ({"old_logprobs"}, "token")
    assert loaded.options == {"clip_eps": 0.5, "clip_eps_high": None}


def test_options_are_checked():
    with pytest.raises(
        OptionError, match=r"\[loss\] 'ppo_clip' \(plugrad .*\) has no option 'clip_esp'\. Did you mean 'clip_eps'\?"
    ):
        plugrad.load("loss", "ppo_clip", clip_esp=0.1)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("losses", " Did you mean 'loss'?"),
        ("Metric", " Did you mean 'metric'?"),
        ("advantages", " Did you mean 'advantage'?"),
        ("optimizer", ""),
        ("", ""),
    ],
)
def test_a_kind_that_there_is_not(kind, hint):
    for ask in (plugrad.load, lambda kind, name: checks_of(name, kind=kind)):
        with pytest.raises(PluginError) as caught:
            ask(kind, "ppo_clip")
        assert (
            str(caught.value) == f"there is no kind {kind!r}.{hint} Kinds: loss, advantage, metric, environment, extension."
        )


def test_an_option_may_be_called_as_an_argument_of_load(write, tmp_path, monkeypatch):
    write("mine.py", "def f(inputs, kind: str, reference: str):\n    return {kind + reference: 1.0}\n")
    monkeypatch.chdir(tmp_path)
    assert list(plugrad.load("metric", "mine.py:f", kind="a", reference="b")(metric_inputs())) == ["ab"]


def test_the_other_kinds_are_ready_to_call():
    advantages = plugrad.load("advantage", "group_mean")(
        AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]), completion_lengths=torch.tensor([[1, 1]]))
    )
    assert advantages.advantages.tolist() == [[0.5, -0.5]]
    assert len(plugrad.load("environment", "arithmetic", digits=1, num_train=3).train_examples()) == 3
    assert plugrad.load("extension", "nan_guard").before_update(float("nan"), 0.0) is False


def test_a_module_in_the_working_directory_is_found(write, tmp_path, monkeypatch):
    write("module_of_mine.py", "def f(inputs): return {'seven': 7}")
    monkeypatch.chdir(tmp_path)
    assert plugrad.load("metric", "module_of_mine:f")(metric_inputs())["seven"].value() == 7


def test_what_is_not_there_is_an_error():
    with pytest.raises(PluginError, match="no loss is called 'ppo_cilp'"):
        plugrad.load("loss", "ppo_cilp")


def test_a_loaded_loss_is_checked_when_called(write, tmp_path, monkeypatch):
    write("mine.py", "def f(inputs): return inputs.trainer_logprobs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContractError, match=r"the loss 'f' \(.*mine\.py\) returned Tensor; a loss returns"):
        plugrad.load("loss", "mine.py:f")(
            LossInputs(trainer_logprobs=PI, inference_logprobs=PI, advantages=torch.ones(3), loss_mask=EVERY)
        )


def test_a_need_that_the_inputs_do_not_hold_is_named():
    zeros = torch.zeros(2)
    inputs = LossInputs(trainer_logprobs=zeros, inference_logprobs=zeros, advantages=zeros, loss_mask=zeros == 0)
    with pytest.raises(ContractError, match=r"needs old_logprobs: pass LossInputs\(old_logprobs=...\)"):
        plugrad.load("loss", "ppo_clip")(inputs)
