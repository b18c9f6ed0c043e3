"""verl itself: its own losses and estimators through plugrad's adapters, and plugrad's through its registries."""

import inspect

import numpy as np
import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, BatchLossInputs, load
from plugrad_compat import export

core_algos = pytest.importorskip("verl.trainer.ppo.core_algos", reason="nox -s compat installs it")
from verl.workers.config import ActorConfig  # noqa: E402

MODULE = "verl.trainer.ppo.core_algos"
LENGTHS = (6, 2, 5, 1)
LOSSES = {
    **dict.fromkeys(["vanilla", "dppo_tv", "dppo_kl", "gpg", "cispo"], ("token", "nothing")),
    "gspo": ("sequence", "nothing"),
    # It takes the mean over each sequence, whatever mode it is told.
    "sapo": ("sequence", "tokens"),
    "geo_mean": ("sequence", "tokens"),
}
"""What reduces them, and what they have divided by when every denominator is 1."""
THEIR_IMPORTS = """
from collections import defaultdict
from typing import Any, Optional

import numpy as np
import torch
from omegaconf import DictConfig

import plugrad_compat.verl as verl_F
from plugrad_compat.verl import ActorConfig, AlgoConfig, agg_loss, register_policy_loss


"""
"""Those of core_algos, changed."""
MODES = ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]


@pytest.fixture
def config():
    return ActorConfig(strategy="fsdp", rollout_n=1, ppo_mini_batch_size=4, ppo_micro_batch_size_per_gpu=4)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(3)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)

    def drawn(low, high):
        return torch.where(mask, low + (high - low) * torch.rand(mask.shape, generator=draw, dtype=torch.double), 0.0)

    log_prob = drawn(-3, -0.1)
    return {
        "old_log_prob": log_prob + drawn(-0.4, 0.4),
        "log_prob": log_prob.requires_grad_(),
        "advantages": drawn(-1, 1),
        "response_mask": mask.double(),
    }


def inputs_of(batch):
    return BatchLossInputs(
        trainer_logprobs=batch["log_prob"],
        inference_logprobs=batch["old_log_prob"],
        advantages=batch["advantages"],
        loss_mask=batch["response_mask"].bool(),
        old_logprobs=batch["old_log_prob"],
    )


def value_and_gradient(loss, batch):
    (gradient,) = torch.autograd.grad(loss, batch["log_prob"])
    return loss.detach(), gradient


@pytest.mark.parametrize("name", LOSSES)
def test_its_own_losses_run_here_and_are_what_they_are_there(name, batch, config):
    reduction, divides_by = LOSSES[name]
    mode = {"token": "token-mean", "sequence": "seq-mean-token-mean"}[reduction]
    theirs = core_algos.get_policy_loss_fn(name)
    wanted, _ = theirs(**batch, loss_agg_mode=mode, config=config)
    ours = load("loss", "plugrad-compat/verl", target=f"{MODULE}:{theirs.__name__}", divides_by=divides_by)
    sums = ours(inputs_of(batch)).loss
    lengths = torch.tensor(LENGTHS)
    found = sums.sum() / lengths.sum() if reduction == "token" else (sums / lengths).mean()
    torch.testing.assert_close(value_and_gradient(found, batch), value_and_gradient(wanted, batch), rtol=1e-6, atol=1e-9)


@pytest.fixture
def copied(tmp_path):
    """Copy a function's source into a file of its own, under the changed imports; return the reference to it."""

    def copy(function):
        path = tmp_path / f"{function.__name__}.py"
        source = inspect.getsource(function)
        # An estimator's decorator names a member of verl's enumeration.
        own = source if "register_policy_loss" in source else source[source.index("def ") :]
        path.write_text(THEIR_IMPORTS + own, encoding="utf-8")
        return f"{path}:{function.__name__}"

    return copy


@pytest.mark.parametrize("name", LOSSES)
def test_their_source_runs_here_with_its_imports_changed(name, batch, copied):
    theirs = core_algos.get_policy_loss_fn(name)
    given = {"divides_by": LOSSES[name][1]}
    installed = load("loss", "plugrad-compat/verl", target=f"{MODULE}:{theirs.__name__}", **given)(inputs_of(batch))
    found = load("loss", "plugrad-compat/verl", target=copied(theirs), **given)(inputs_of(batch))
    torch.testing.assert_close(found.loss, installed.loss)
    assert found.metrics.keys() == installed.metrics.keys()


@pytest.mark.parametrize("name", ["grpo", "grpo_passk", "gpg", "opo", "reinforce_plus_plus", "rloo"])
def test_the_source_of_their_estimators_does_too(name, copied):
    theirs = core_algos.get_adv_estimator_fn(name)
    inputs = AdvantageInputs(
        rewards=torch.tensor([[1.0, 0.2], [0.5, 0.9]]).double(), completion_lengths=torch.tensor([[3, 1], [2, 2]])
    )
    found, installed = (
        load("advantage", "plugrad-compat/verl", target=target)(inputs).advantages
        for target in (copied(theirs), f"{MODULE}:{theirs.__name__}")
    )
    torch.testing.assert_close(found, installed)


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_its_losses_that_mix_sequences_are_given_whole_micro_batches(name, batch, config):
    theirs = core_algos.get_policy_loss_fn(name)
    one_at_a_time = load("loss", "plugrad-compat/verl", target=f"{MODULE}:{theirs.__name__}")
    with pytest.raises(plugrad.ContractError, match=r'mixes sequences.* name = "verl_whole_batch"'):
        one_at_a_time(inputs_of(batch))
    torch.manual_seed(0)
    wanted, _ = theirs(**batch, loss_agg_mode="token-mean", config=config)
    ours = load("loss", "plugrad-compat/verl_whole_batch", target=f"{MODULE}:{theirs.__name__}")
    torch.manual_seed(0)
    found = ours(inputs_of(batch)).loss.sum() / sum(LENGTHS)
    torch.testing.assert_close(value_and_gradient(found, batch), value_and_gradient(wanted, batch), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["grpo", "rloo", "opo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "remax"])
def test_its_own_estimators_run_here_and_are_what_they_are_there(name):
    theirs = core_algos.get_adv_estimator_fn(name)
    rewards, lengths = torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.9, 0.4]]).double(), torch.tensor([[2, 4, 3], [1, 4, 2]])
    mask = (torch.arange(4) < lengths.flatten().unsqueeze(1)).double()
    token_level = torch.zeros(6, 4, dtype=torch.double)
    token_level[torch.arange(6), lengths.flatten() - 1] = rewards.flatten()
    given = {"token_level_rewards": token_level, "response_mask": mask, "index": np.array(list("aaabbb"), dtype=object)}
    greedy = torch.tensor([0.3, 0.6]).double()
    if name == "remax":
        given = {"token_level_rewards": token_level, "response_mask": mask, "reward_baselines": greedy.repeat_interleave(3)}
    from verl.trainer.config import AlgoConfig

    wanted, _ = theirs(**given, config=AlgoConfig(gamma=1.0))
    ours = load("advantage", "plugrad-compat/verl", target=f"{MODULE}:{theirs.__name__}")
    found = ours(AdvantageInputs(rewards=rewards, completion_lengths=lengths, greedy_rewards=greedy)).advantages
    rows = [tokens for group in found for tokens in group]
    for row, expected, length in zip(rows, wanted, lengths.flatten().tolist(), strict=True):
        torch.testing.assert_close(row, expected[:length].double())


@pytest.mark.parametrize("mode", MODES)
def test_plugrads_clip_in_its_registry_is_its_own(mode, batch, config):
    core_algos.register_policy_loss("plugrad_clip")(export.verl_policy_loss("dual_clip"))
    found, metrics = core_algos.get_policy_loss_fn("plugrad_clip")(**batch, loss_agg_mode=mode, config=config)
    wanted, _ = core_algos.get_policy_loss_fn("vanilla")(**batch, loss_agg_mode=mode, config=config)
    torch.testing.assert_close(value_and_gradient(found, batch), value_and_gradient(wanted, batch), rtol=1e-6, atol=1e-9)
    assert "actor/clip_fraction" in metrics
    assert all(isinstance(value, float) for value in metrics.values())


def test_with_the_counts_of_a_global_batch_micro_batches_add_up(batch, config):
    config.global_batch_info.update({"dp_size": 1, "batch_num_tokens": sum(LENGTHS), "global_batch_size": len(LENGTHS)})
    ours = export.verl_policy_loss("gspo")
    for mode in ("token-mean", "seq-mean-token-mean"):
        whole, _ = ours(**batch, loss_agg_mode=mode, config=config)
        halves = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 1), slice(1, 4))]
        parts = [ours(**half, loss_agg_mode=mode, config=config)[0] for half in halves]
        torch.testing.assert_close(sum(parts), whole)


def test_its_importance_weights_weigh_tokens(batch, config):
    weights = torch.linspace(0.5, 1.5, batch["log_prob"].numel()).double().reshape(batch["log_prob"].shape)
    ours = export.verl_policy_loss("dual_clip")
    found, _ = ours(**batch, loss_agg_mode="token-mean", config=config, rollout_is_weights=weights)
    theirs = core_algos.get_policy_loss_fn("vanilla")
    wanted, _ = theirs(**batch, loss_agg_mode="token-mean", config=config, rollout_is_weights=weights)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_plugrads_rloo_in_its_registry_is_its_own():
    core_algos.register_adv_est("plugrad_rloo")(export.verl_advantage("rloo"))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).double()
    rewards = torch.zeros(4, 3).double()
    rewards[:, 0] = torch.tensor([1.0, 0.0, 0.5, 0.7]).double()
    index = np.array(["a", "b", "a", "b"], dtype=object)
    given = {"token_level_rewards": rewards, "response_mask": mask, "index": index}
    found, _ = core_algos.get_adv_estimator_fn("plugrad_rloo")(**given, config=None)
    wanted, _ = core_algos.get_adv_estimator_fn("rloo")(**given)
    torch.testing.assert_close(found, wanted)


def test_a_name_that_is_not_installed_is_said_at_the_first_call(batch, config):
    with pytest.raises(plugrad.PluginError, match="Did you mean 'gspo'"):
        export.verl_policy_loss("gpso")(**batch, config=config)
