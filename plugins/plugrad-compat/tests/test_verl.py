"""verl: its losses and advantage estimators, with only their imports changed, return what the formula gives."""

from __future__ import annotations

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, ContractError, OptionError, PluginError
from plugrad_compat.verl import agg_loss, get_policy_loss_fn, masked_var, masked_whiten


def load(target, name="verl", **options):
    return plugrad.load("loss", f"plugrad-compat/{name}", target=target, **options)


def estimator(target, **options):
    return plugrad.load("advantage", "plugrad-compat/verl", target=target, **options)


def test_the_clip_by_hand(tokens, target):
    inputs = tokens([2.0, 0.5, 4.0], [1.0, -1.0, -1.0])
    outputs = load(target("verl_losses", "my_vanilla"))(inputs)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(-1.2 + 0.8 + 3.0)
    torch.testing.assert_close(inputs.trainer_logprobs.grad[2:].tolist(), [0.0, 0.0, 0.0])
    assert outputs.metrics["ppo_kl"].value() == pytest.approx(-float(torch.tensor([2.0, 0.5, 4.0]).log().mean()))


def test_verls_defaults_lie_below_the_config(tokens, target):
    loss = load(target("verl_losses", "my_vanilla"), config={"clip_ratio_high": 0.5, "clip_ratio_c": 10.0})
    assert loss(tokens([2.0, 4.0], [1.0, -1.0])).loss.item() == pytest.approx(-1.5 + 4.0)


def test_a_function_that_takes_the_mean_over_each_sequence_says_so(tokens, target):
    inputs = tokens([1.1, 1.1, 1.1], [1.0, 1.0, 2.0])
    with pytest.raises(ContractError, match=r'returns a mean.*divides_by = "tokens"'):
        load(target("verl_losses", "my_gspo"))(inputs)
    found = load(target("verl_losses", "my_gspo"), divides_by="tokens")(inputs)
    assert found.loss.item() == pytest.approx(-1.1 * 4.0)


def test_one_that_mixes_sequences_has_a_way(tokens, target):
    with pytest.raises(ContractError, match='name = "verl_whole_batch"'):
        load(target("verl_losses", "my_clip_cov"))(tokens([1.0], [1.0]))
    assert load(target("verl_losses", "my_clip_cov"), "verl_whole_batch").bound.component.facts.whole_batch


def test_one_that_mixes_only_what_a_threshold_selects_is_found_too(tokens, target):
    with pytest.raises(ContractError, match=r'mixes sequences.* name = "verl_whole_batch"'):
        load(target("verl_losses", "my_thresholded"))(tokens([1.0], [1.0]))


def test_where_the_reduction_is(target, caplog):
    load(target("verl_losses", "my_vanilla"), config={"loss_agg_mode": "seq-mean-token-sum-norm"})
    assert 'reduction = "constant"' in caplog.text


def test_grpo_by_hand(target):
    rewards, lengths = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double(), torch.tensor([[3, 1], [2, 2]])
    found = estimator(target("verl_losses", "my_grpo"))(
        AdvantageInputs(rewards=rewards, completion_lengths=lengths)
    ).advantages
    # A deviation of half the distance, over a standard deviation (unbiased) of the distance over the square root of two.
    half = 0.5 / (0.5**0.5 + 1e-6)
    assert [[tokens.tolist() for tokens in group] for group in found] == [
        [pytest.approx([half] * 3), pytest.approx([-half])],
        [pytest.approx([0.0] * 2), pytest.approx([0.0] * 2)],
    ]


def test_an_estimators_own_arguments_are_given(target):
    rewards, lengths = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[1, 1]])
    plain = estimator(target("verl_losses", "my_grpo"), kwargs={"norm_adv_by_std_in_grpo": False})
    found = plain(AdvantageInputs(rewards=rewards, completion_lengths=lengths)).advantages
    assert [tokens.item() for tokens in found[0]] == pytest.approx([0.5, -0.5])


def test_an_estimator_that_takes_baselines_needs_the_greedy_rewards(target):
    from plugrad.testing import checks_of

    checks_of("plugrad-compat/verl", kind="advantage", options={"target": target("verl_losses", "my_remax")})
    rewards, lengths = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[2, 1]])
    inputs = AdvantageInputs(rewards=rewards, completion_lengths=lengths, greedy_rewards=torch.tensor([0.25]).double())
    found = estimator(target("verl_losses", "my_remax"))(inputs).advantages
    assert [tokens.tolist() for tokens in found[0]] == [pytest.approx([0.75, 0.75]), pytest.approx([-0.25])]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (
            "def mine(token_level_rewards, values, response_mask, gamma, lam): ...",
            r"is not a verl advantage estimator: it asks for 'values', 'gamma', 'lam'.* not receive 'values', 'lam' either",
        ),
        ("def mine(old_log_prob, log_prob, advantages, response_mask): ...", r"looks like a verl policy loss"),
        (
            "def mine(token_level_rewards, response_mask): return token_level_rewards.sum(), None",
            r"returned a tensor of shape \(\) as advantages",
        ),
    ],
)
def test_an_estimator_of_another_shape_is_told_so(code, complaint, written):
    path = written(code)
    with pytest.raises((PluginError, ContractError), match=complaint):
        estimator(f"{path}:mine")(
            AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]), completion_lengths=torch.tensor([[2, 1]]))
        )


def test_an_estimator_that_raises_says_whose_it_is(written):
    path = written("def mine(token_level_rewards, response_mask, config=None): return config.epsilon")
    with pytest.raises(ContractError, match=r"mine' raised MissingKey: the config has no 'epsilon'; it has adv_estimator"):
        estimator(f"{path}:mine")(
            AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]), completion_lengths=torch.tensor([[2, 1]]))
        )


def test_a_keyword_that_an_estimator_does_not_take(target):
    with pytest.raises(OptionError, match=r"no keyword argument 'epsilonn'\. It takes token_level_rewards"):
        estimator(target("verl_losses", "my_grpo"), kwargs={"epsilonn": 1e-3})


def test_a_setting_of_grpo_reaches_its_parameter(target):
    inputs = AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]).double(), completion_lengths=torch.tensor([[1, 1]]))
    config = {"norm_adv_by_std_in_grpo": False}
    (found,) = estimator(target("verl_losses", "my_grpo"), config=config)(inputs).advantages
    assert [tokens.tolist() for tokens in found] == [[0.5], [-0.5]]


def test_of_one_that_mixes_sequences_what_it_divides_by_is_tried_too(tokens, target):
    mixed = load(target("verl_losses", "my_clip_cov"), "verl_whole_batch", divides_by="tokens")
    with pytest.raises(ContractError, match=r"returns a sum .* divides_by = \"nothing\""):
        mixed(tokens([1.0, 2.0], [1.0, 2.0]))


def test_skyrls_order_of_arguments_is_no_verl_loss(written):
    path = written("def mine(log_probs, old_log_probs, advantages, config, loss_mask=None): ...")
    with pytest.raises(PluginError, match=r'looks like a SkyRL policy loss: select it with .* name = "skyrl"'):
        load(f"{path}:mine")


def test_a_class_of_another_system_is_no_verl_loss(target):
    with pytest.raises(
        PluginError, match=r'is a class, but a verl policy loss is a function. It looks like a NeMo RL.*"nemo_rl"'
    ):
        load(target("nemo_rl_losses", "NLLLoss"))
    with pytest.raises(PluginError, match=r"looks like a SkyRL PolicyLoss.compute_loss"):
        load(target("skyrl_losses", "MyCustomPolicyLoss"))


def test_a_name_that_is_not_registered_is_answered_with_those_that_are(target):
    load(target("verl_losses", "my_vanilla"))
    with pytest.raises(PluginError, match=r"no verl policy loss is registered as 'my_vanila'. Registered: .*my_vanilla"):
        get_policy_loss_fn("my_vanila")
    with pytest.raises(PluginError, match=r"Registered as a verl policy loss: .*my_gspo"):
        load(target("verl_losses", "my_gsop"))


def test_its_aggregation():
    losses, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    wanted = {
        "token-mean": 10 / 4,
        "token-sum": 10,
        "seq-mean-token-sum": 10 / 2,
        "seq-mean-token-mean": (2 + 4) / 2,
        "seq-mean-token-sum-norm": 10 / 2 / 3,
    }
    for mode, value in wanted.items():
        assert agg_loss(losses, mask, mode).item() == pytest.approx(value)
    unit = {"dp_size": 1, "batch_num_tokens": 1, "global_batch_size": 1, "loss_scale_factor": 1}
    for mode in ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm"):
        assert agg_loss(losses, mask, mode, **unit).item() == pytest.approx(10)
    with pytest.raises(PluginError, match="verl has token-mean"):
        agg_loss(losses, mask, "token_mean")


def test_whitening():
    values, mask = torch.tensor([[1.0, 2.0, 3.0, 50.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    whitened = masked_whiten(values, mask)[mask.bool()]
    assert whitened.mean().item() == pytest.approx(0, abs=1e-6)
    assert whitened.std().item() == pytest.approx(1, rel=1e-6)
    with pytest.raises(PluginError, match="the mask counts 1"):
        masked_var(values[:, :1], mask[:, :1])
