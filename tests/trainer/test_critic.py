"""Runs with a critic: what it learns, what is refused, and what is saved."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from plugrad import ContractError, ModelError, RunFileError
from plugrad.testing import tiny_model, tiny_tokenizer

PLUGINS = """
import torch
from plugrad import AdvantageInputs, AdvantageOutputs, LossInputs, LossOutputs, Mean, advantage, loss, metric


@advantage(needs={"values"}, signal_from_equal_rewards=True)
def monte_carlo(inputs: AdvantageInputs, returns: str = "right") -> AdvantageOutputs:
    assert [[len(values) for values in group] for group in inputs.values] == (inputs.completion_lengths + 1).tolist()
    wanted = [[torch.full_like(v[1:], r["reward"]) for v, r in zip(*pair)] for pair in zip(inputs.values, inputs.rollouts)]
    found = [[r - v[:-1] for r, v in zip(*pair)] for pair in zip(wanted, inputs.values)]
    if returns == "one":
        wanted = [[torch.ones_like(r) for r in group] for group in wanted]
    if returns == "long":
        wanted = [[torch.cat([r, r[:1]]) for r in group] for group in wanted]
    if returns == "infinite":
        wanted[0][0] = wanted[0][0] / 0
    return AdvantageOutputs(found, returns=None if returns == "none" else wanted)


@advantage(needs={"old_logprobs", "ref_logprobs"}, signal_from_equal_rewards=True)
def kl_in_the_reward(inputs: AdvantageInputs) -> AdvantageOutputs:
    pairs = zip(inputs.old_logprobs, inputs.ref_logprobs, inputs.rewards.tolist())
    return AdvantageOutputs([[reward - (old - ref) for old, ref, reward in zip(*group)] for group in pairs])


@loss(needs={"values", "returns"}, policy_gradient=False)
def squared(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((inputs.values - inputs.returns) ** 2, {"value": Mean.over(inputs.values, inputs.loss_mask)})


@loss(needs={"values", "old_values"}, policy_gradient=False)
def moved(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((inputs.values - inputs.old_values - 1) ** 2, {"moved": (inputs.values - inputs.old_values).sum()})


@metric(needs={"values", "returns"})
def explained(inputs):
    left = (inputs.returns - inputs.values)[inputs.loss_mask]
    return {"left": left.square().mean()}
"""
PPO = [{"name": "importance_sampling"}, {"name": "plugins.py:squared", "weight": 0.5}]


@pytest.fixture
def ppo(write, run):
    def train_it(loss=PPO, advantage="monte_carlo", critic=None, returns="right", **tables):
        write("plugins.py", PLUGINS)
        kwargs = {"returns": returns} if advantage == "monte_carlo" else {}
        return run(
            advantage={"name": f"plugins.py:{advantage}", "kwargs": kwargs} if advantage else None,
            loss=loss,
            critic={"lr": 1e-2} if critic is None else critic or None,
            **tables,
        )

    return train_it


def test_the_values_approach_the_returns(ppo):
    records = ppo(returns="one", max_steps=8, metric=[{"name": "plugins.py:explained"}]).records
    steps = [record for record in records if "squared/value" in record]
    assert steps[0]["squared/value"] == 0.0, "no state has a value at first"
    assert steps[0]["explained/left"] == 1.0
    assert steps[-1]["squared/value"] > 0.05
    assert steps[-1]["explained/left"] < 0.95


def test_old_values_are_those_before_the_first_update_on_a_batch(ppo):
    losses = [{"name": "importance_sampling"}, {"name": "plugins.py:moved"}]
    once, twice = (ppo(losses, updates_per_batch=n, max_steps=1).records[-1]["moved/moved"] for n in (1, 2))
    assert once == 0.0
    assert twice > 0.0


def test_advantages_may_read_log_probs(ppo):
    records = ppo([{"name": "ppo_clip"}], "kl_in_the_reward", critic=False, updates_per_batch=2).records
    assert all(record["loss"] == record["loss"] for record in records)


@pytest.mark.parametrize(
    ("tables", "error", "told"),
    [
        ({"critic": False}, RunFileError, r"the advantage 'monte_carlo' .* needs values, and the run file has no critic"),
        (
            {"critic": False, "advantage": None},
            RunFileError,
            r"the loss 'squared' .* needs values, .* no critic\. Add a table \[critic\], which may be empty",
        ),
        ({"returns": "none"}, ContractError, r"'squared' .* needs returns, and the advantage 'monte_carlo' .* gives none"),
        ({"advantage": None}, ContractError, r"needs returns, and the advantage 'group_mean' .* gives none"),
        (
            {"returns": "long"},
            ContractError,
            r"'monte_carlo' .* returned returns of lengths .*one number per completion token",
        ),
        ({"returns": "infinite"}, ContractError, "returns that are not finite"),
        ({"critic": {"name": "no/such/folder"}}, ModelError, "no/such/folder"),
        ({"critic": {"lr": 0.0}}, RunFileError, "critic.lr"),
        ({"critic": {"hidden": 3}}, RunFileError, r"\[critic\] has no key 'hidden'"),
    ],
)
def test_what_does_not_fit_together_is_refused(ppo, tables, error, told):
    with pytest.raises(error, match=told):
        ppo(**tables)


def test_a_critic_that_nothing_trains_is_noticed(ppo, caplog):
    ppo([{"name": "importance_sampling"}], max_steps=1)
    assert "No loss trains the critic: none needs values" in caplog.text
    assert "'monte_carlo'" in caplog.text


def test_a_critic_that_nothing_trains_stays_as_it_was_though_metrics_read_it(ppo):
    first = ppo(max_steps=1)
    tables = {"metrics": ["plugins.py:explained"], "optimizer": {"lr": 1e-2, "weight_decay": 0.5}}
    again = ppo(
        [{"name": "importance_sampling"}],
        critic={"name": str(first.model)},
        max_steps=2,
        output_dir=str(first.folder.parent / "again"),
        **tables,
    )
    given, kept = load_file(first.model / "model.safetensors"), load_file(again.model / "critic" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in given.items())


def test_it_is_saved_beside_the_policy_and_goes_on_from_there(ppo, caplog):
    first = ppo(max_steps=4)
    head = load_file(first.model / "critic" / "value_head.safetensors")
    assert head["linear.weight"].any()
    caplog.set_level("INFO", logger="plugrad")
    again = ppo(model={"name": str(first.model)}, max_steps=1, output_dir=str(first.folder.parent / "again"))
    assert "The critic goes on from" in caplog.text
    assert again.records[-1]["squared/value"] != 0.0


def test_a_head_of_another_size_or_that_is_not_finite_is_refused(ppo):
    first = ppo(max_steps=1)
    path, out = first.model / "critic" / "value_head.safetensors", str(first.folder.parent / "again")
    good = load_file(path)
    for bad, told in (
        ({**good, "linear.weight": torch.zeros(1, 3)}, "is not the value head of a model whose hidden states have"),
        ({**good, "linear.bias": torch.tensor([torch.nan])}, "numbers that are not finite"),
    ):
        save_file(bad, path)
        with pytest.raises(ModelError, match=told):
            ppo(model={"name": str(first.model)}, max_steps=1, output_dir=out)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="is not the value head"):
        ppo(model={"name": str(first.model)}, max_steps=1, output_dir=out)


def test_a_model_of_its_own(ppo, tmp_path):
    for name, seed in (("policy", 0), ("other", 1)):
        tiny_model(seed, vocab_size=len(tiny_tokenizer())).save_pretrained(tmp_path / name)
        tiny_tokenizer().save_pretrained(tmp_path / name)
    result = ppo(model={"name": str(tmp_path / "policy")}, critic={"name": str(tmp_path / "other"), "lr": 1e-3}, max_steps=4)
    assert result.records[-1]["squared/value"] != 0.0
    saved, before = (load_file(folder / "model.safetensors") for folder in (result.model / "critic", tmp_path / "other"))
    changed = [name for name in before if not torch.equal(saved[name], before[name])]
    assert changed, "its layers learn"
    again = ppo(
        model={"name": str(result.model)}, critic={"name": str(result.model / "critic")}, max_steps=1,
        output_dir=str(tmp_path / "again"),
    )  # fmt: skip
    assert again.records[-1]["squared/value"] == pytest.approx(result.records[-1]["squared/value"], rel=0.5)
