"""SkyRL: its documented losses, with only their imports changed, return the sum of the formula."""

from __future__ import annotations

import math

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, ContractError, OptionError, PluginError
from plugrad_compat.skyrl import AdvantageEstimatorRegistry, compute_approx_kl, masked_mean, reduce_loss


def load(target, name="skyrl", **options):
    return plugrad.load("loss", f"plugrad-compat/{name}", target=target, **options)


def test_the_documented_class_by_hand(tokens, target):
    # max(-A r, -A clip(r, 0.8, 1.2)): -1.2, 1.5 and -0.5.
    inputs = tokens([2.0, 1.5, 0.5], [1.0, -1.0, 1.0])
    outputs = load(target("skyrl_losses", "MyCustomPolicyLoss"), config={"my_param": 1.5})(inputs)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(-1.2 + 1.5 - 0.5)
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [0.0, 0.0, 0.0, 1.5, -0.5])


def test_the_entropy_of_the_documented_class_is_over_the_sampled_tokens_alone(tokens, target):
    inputs = tokens([1.0, 1.0], [1.0, 2.0])
    found = load(target("skyrl_losses", "EntropyRegularizedLoss"), config={"entropy_coef": 0.5})(inputs).loss.item()
    of_the_sampled = 2 * (-math.exp(-2) * -2)
    assert found == pytest.approx(-(1.0 + 2.0) - 0.5 * of_the_sampled)


@pytest.mark.parametrize("name", ["my_custom_loss", "MyCustomPolicyLoss"])
def test_a_registered_name_is_the_same_as_what_it_names(tokens, target, name):
    inputs = tokens([2.0, 0.5, 1.1], [1.0, 1.0, -1.0])
    assert load(target("skyrl_losses", name))(inputs).loss.item() == pytest.approx(-1.2 - 0.5 + 1.1)


def test_a_function_has_skyrls_defaults_below_its_config(tokens, target):
    inputs = tokens([2.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0])
    outputs = load(target("skyrl_losses", "clipped"))(inputs)
    assert outputs.loss.item() == pytest.approx(-1.2 - 1.2 - 1 - 1)
    assert outputs.metrics["clip_ratio"].value() == pytest.approx(0.5)
    wide = load(target("skyrl_losses", "clipped"), config={"eps_clip_high": 0.5})(inputs)
    assert wide.loss.item() == pytest.approx(-1.5 - 1.5 - 1 - 1)


def test_a_function_that_ignores_the_mask_sees_counted_tokens_alone(tokens, target):
    inputs = tokens([1.0, 1.0], [1.0, 3.0])
    outputs = load(target("skyrl_losses", "reinforce"))(inputs)
    assert outputs.loss.item() == pytest.approx(2.0 * 1.0 + 2.0 * 3.0)
    assert outputs.metrics["clip_ratio"].value() == 0.0


def test_a_sum_is_left_as_it_is_and_sees_the_engines_log_probs(tokens, target):
    # The engine's log-probs are half a nat lower: a correction of exp(0.5), bounded at 1.5.
    found = load(target("skyrl_losses", "summed"), divides_by="nothing", config={"tis_imp_ratio_cap": 1.5})(
        tokens([1.0, 2.0], [1.0, -1.0])
    )
    assert found.loss.item() == pytest.approx(1.5 * (-1.0 + 2.0))


def test_holes_in_the_mask_are_left_out(tokens, target):
    whole, dropped = tokens([1.1, 1.2, 0.9], [1.0, 2.0, 3.0]), tokens([1.1, 5.0, 0.9], [1.0, 9.0, 3.0])
    mask = dropped.loss_mask.clone()
    mask[3] = False
    loss = load(target("skyrl_losses", "MyCustomPolicyLoss"))
    found = loss(plugrad.LossInputs(**{**vars(dropped), "loss_mask": mask})).loss.item()
    assert found == pytest.approx(-1.1 - 0.9 * 3.0)
    assert loss(whole).loss.item() == pytest.approx(-1.1 - 1.2 * 2.0 - 0.9 * 3.0)


def test_a_sum_that_is_said_to_be_a_mean_is_found(tokens, target):
    loss = load(target("skyrl_losses", "summed"), config={"tis_imp_ratio_cap": 2.0})
    with pytest.raises(
        ContractError, match=r"returns a sum .* divides_by = 'tokens' says a mean .* divides_by = \"nothing\""
    ):
        loss(tokens([1.0], [1.0]))


def test_a_loss_that_mixes_sequences_is_found_and_has_a_way(tokens, target):
    with pytest.raises(ContractError, match=r'mixes sequences.*name = "skyrl_whole_batch"'):
        load(target("skyrl_losses", "mixing"))(tokens([1.0, 2.0], [1.0, 2.0]))
    mixed = load(target("skyrl_losses", "mixing"), "skyrl_whole_batch")
    assert mixed.bound.component.facts.whole_batch
    # Over the mean advantage of 1.5 the two tokens have -0.5 and 0.5.
    assert mixed(tokens([1.0, 2.0], [1.0, 2.0])).loss.item() == pytest.approx(0.5 - 1.0)


def test_one_of_its_later_versions_runs(tokens, target):
    outputs = load(target("skyrl_losses", "later"))(tokens([2.0, 0.5, 1.1], [1.0, -1.0, 2.0]))
    assert outputs.loss.item() == pytest.approx(-1.2 + 0.8 - 2.2)
    added = {name: (measure + measure).value() for name, measure in outputs.metrics.items()}
    assert added == {"ratio_max": pytest.approx(2.0), "ratio_min": pytest.approx(0.5), "tokens_sum": 6.0}


def test_its_correction_of_engine_and_trainer_is_an_extension_here(tokens, target):
    loss = load(target("skyrl_losses", "later"), config={"off_policy_correction": {"tis_ratio_type": "token"}})
    with pytest.raises(OptionError, match=r"off_policy_correction.tis_ratio_type = 'token'.*mismatch_correction"):
        loss(tokens([1.0], [1.0]))


def estimator(target, **options):
    return plugrad.load("advantage", "plugrad-compat/skyrl", target=target, **options)


def test_an_estimator_by_hand(target):
    inputs = AdvantageInputs(
        rewards=torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double(), completion_lengths=torch.tensor([[2, 1], [1, 1]])
    )
    for name in ("simple_baseline", "compute_simple_baseline_advantage"):
        found = estimator(target("skyrl_losses", name))(inputs).advantages
        assert [[tokens.tolist() for tokens in group] for group in found] == [[[0.5, 0.5], [-0.5]], [[0.0], [0.0]]]


def test_an_estimator_is_given_what_skyrl_gives_by_name(target):
    inputs = AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]).double(), completion_lengths=torch.tensor([[2, 2]]))
    ((first, second),) = estimator(target("skyrl_losses", "discounted"), config={"gamma": 0.5})(inputs).advantages
    # Returns of 0.5 and 1, 0 and 0: the mean is 0.375, and of the second token of the first twice as far as of its first.
    assert (first[1] - second[1]) / (first[0] - second[0]) == pytest.approx(2.0)
    with pytest.raises(PluginError, match=r"no SkyRL advantage estimator is registered as 'grpo'. Registered: discounted"):
        AdvantageEstimatorRegistry.get("grpo")


def test_a_config_key_that_nothing_reads_is_said_once(tokens, target, caplog):
    loss = load(target("skyrl_losses", "MyCustomPolicyLoss"), config={"my_param": 2.0, "my_parm": 3.0})
    for _ in range(3):
        loss(tokens([1.0], [1.0]))
    (said,) = [record.message for record in caplog.records]
    assert "never read 'my_parm' of its config" in said


def test_the_reduction_is_said_to_be_the_run_files(target, caplog):
    load(target("skyrl_losses", "clipped"), config={"loss_reduction": "sequence_mean"})
    assert 'reduction = "sequence"' in caplog.text


def test_a_metric_with_a_graph_is_detached_and_said(tokens, written, caplog):
    path = written(
        """
        def mine(log_probs, old_log_probs, advantages, config, loss_mask=None):
            ratio = (log_probs - old_log_probs).exp()
            return (-ratio * advantages * loss_mask).sum() / loss_mask.sum(), {"ratio": ratio.mean()}
        """
    )
    outputs = load(f"{path}:mine")(tokens([1.0, 3.0], [1.0, 1.0]))
    assert not outputs.metrics["ratio"].total.requires_grad
    assert outputs.metrics["ratio"].value() == pytest.approx(2.0)
    assert "returns the metric 'ratio' with its graph" in caplog.text


BAD = {
    "values per token": (
        "def mine(log_probs, old_log_probs, advantages, config, loss_mask=None):\n    return -log_probs * advantages, {}",
        ContractError,
        r"returned a loss of shape \(1, 5\): values per token, but a SkyRL policy loss returns a scalar",
    ),
    "no tensor": (
        "def mine(log_probs, old_log_probs, advantages, config):\n    return 1.0, {}",
        ContractError,
        "a SkyRL policy loss returns a scalar tensor",
    ),
    "three things": (
        "def mine(log_probs, old_log_probs, advantages, config):\n    return -log_probs.mean(), {}, 1",
        ContractError,
        "returned a tuple of 3; a SkyRL policy loss returns a scalar tensor, or one and metrics",
    ),
    "nothing": (
        "def mine(log_probs, old_log_probs, advantages, config): ...",
        ContractError,
        "returned NoneType; a SkyRL policy loss returns a scalar tensor",
    ),
    "NaN": (
        "def mine(log_probs, old_log_probs, advantages, config):\n    return -log_probs.mean() * float('nan'), {}",
        ContractError,
        "returned no finite number in a trial on two random sequences",
    ),
    "a mean over rows that one row has not": (
        "def mine(log_probs, old_log_probs, advantages, config):\n"
        "    return (log_probs - log_probs.mean(0)).abs().sum() / (len(log_probs) - 1)",
        ContractError,
        "mixes sequences",
    ),
    "a metric of many": (
        "def mine(log_probs, old_log_probs, advantages, config):\n    return -log_probs.mean(), {'r': log_probs}",
        ContractError,
        "returned a tensor of shape .* as the metric 'r'",
    ),
    "verl's": (
        "def mine(old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config): ...",
        PluginError,
        r"'old_log_prob', 'log_prob'.* It looks like a verl policy loss: select it with \[loss\] name = \"verl\"",
    ),
    "NeMo RL's": (
        "class mine:\n    def compute_loss(self, next_token_logits, data, global_valid_seqs, global_valid_toks): ...\n"
        "    def __init__(self, config): ...",
        PluginError,
        "It looks like a NeMo RL LossFunction",
    ),
    "plugrad's own": ("def mine(inputs): ...", PluginError, r"asks for 'inputs'.*It looks like a prime-rl loss"),
    "one parameter more": (
        "def mine(log_probs, old_log_probs, advantages, config, temperature): ...",
        PluginError,
        r"asks for 'temperature', which that style does not pass. A SkyRL policy loss takes log_probs",
    ),
    "a class without the method": (
        "class mine:\n    def __init__(self, config): ...\n    def loss(self): ...",
        PluginError,
        r"is a class without compute_loss\(self.* It has loss",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_of_another_style_or_shape_is_told_so(case, tokens, written):
    code, error, complaint = BAD[case]
    path = written(code)
    with pytest.raises(error, match=complaint):
        load(f"{path}:mine")(tokens([1.0] * 5, [1.0] * 5))


def test_a_name_that_is_not_registered_is_answered_with_those_that_are(written):
    path = written(
        """
        from plugrad_compat.skyrl import register_policy_loss

        @register_policy_loss("mine_too")
        def mine(log_probs, old_log_probs, advantages, config): ...
        """
    )
    with pytest.raises(PluginError, match=r"no 'mine_to'.*Registered as a SkyRL policy loss: .*mine_too"):
        load(f"{path}:mine_to")


def test_what_another_file_registers_is_not_what_a_file_that_is_not_there_does(target, written):
    load(target("skyrl_losses", "my_custom_loss"))
    with pytest.raises(PluginError, match=r"names a file that does not exist: '\./missing\.py'"):
        load("./missing.py:my_custom_loss")
    broken = written("import plugrad_compat.nothing", "broken.py")
    with pytest.raises(PluginError, match="cannot be imported: ModuleNotFoundError"):
        load(f"{broken}:my_custom_loss")
    with pytest.raises(PluginError, match="does not name a function"):
        load("my_custom_loss")


def test_two_files_may_register_one_name(tokens, written):
    code = """
        from plugrad_compat.skyrl import register_policy_loss

        @register_policy_loss("same")
        def mine(log_probs, old_log_probs, advantages, config, loss_mask=None):
            return -({} * advantages * log_probs).mean(), {{}}
        """
    first, second = written(code.format(1.0), "first.py"), written(code.format(10.0), "second.py")
    losses = [load(f"{path}:same")(tokens([1.0], [1.0])).loss.item() for path in (first, second, first)]
    assert losses == pytest.approx([2.0, 20.0, 2.0])


BUILT_IN = {
    "skyrl_standard": ([-3.0, 0.5, 4.0], [-3.0, 0.5, 4.0]),
    "skyrl_regular": ([-1.2, 0.8, 4.0], [0.0, 0.0, 4.0]),
    "skyrl_dual_clip": ([-1.2, 0.8, 3.0], [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_its_own_losses_by_hand(name, tokens):
    values, gradient = BUILT_IN[name]
    inputs = tokens([3.0, 0.5, 4.0], [1.0, -1.0, -1.0])
    outputs = plugrad.load("loss", name)(inputs)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(sum(values))
    torch.testing.assert_close(inputs.trainer_logprobs.grad[2:].tolist(), gradient)


def test_cispo_weighs_log_probs_by_a_ratio_of_at_most_five(tokens):
    inputs = tokens([10.0, 0.5], [1.0, -1.0])
    outputs = plugrad.load("loss", "skyrl_cispo")(inputs)
    outputs.loss.backward()
    torch.testing.assert_close(inputs.trainer_logprobs.grad[2:].tolist(), [-5.0, 0.5])
    assert outputs.metrics["clip_ratio"].value() == pytest.approx(0.5)


def test_gspo_has_one_ratio_for_the_sequence(tokens):
    # The geometric mean of 4 and 1 is 2: above 1.2, and only a negative advantage still pushes.
    inputs = tokens([4.0, 1.0], [1.0, -1.0])
    outputs = plugrad.load("loss", "skyrl_gspo")(inputs)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(-1.2 + 2.0)
    torch.testing.assert_close(inputs.trainer_logprobs.grad[2:].tolist(), [0.0, 2.0])
    assert plugrad.load("loss", "skyrl_gspo").reduction == "sequence"


def test_its_functions():
    values, mask = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert masked_mean(values, mask).item() == pytest.approx(1.5)
    assert masked_mean(values, None).item() == pytest.approx(4.0)
    assert masked_mean(values, mask, dim=-1).tolist() == pytest.approx([1.5])
    assert reduce_loss(values, mask, "seq_mean_token_sum_norm", 1024).item() == pytest.approx(1.5)
    ratio = torch.tensor([2.0]).log()
    wanted = {"k1": math.log(2), "abs": math.log(2), "k2": math.log(2) ** 2 / 2, "k3": 0.5 + math.log(2) - 1}
    for name, value in wanted.items():
        assert compute_approx_kl(ratio, torch.zeros(1), kl_estimator_type=name).item() == pytest.approx(value)
    with pytest.raises(PluginError, match="SkyRL has k1, abs, k2, k3"):
        compute_approx_kl(ratio, ratio, kl_estimator_type="k4")
