"""Runs with losses that ask for further passes: what they learn, what is refused, and how the token budget is shared."""

from dataclasses import replace

import pytest
import torch

import plugrad
from plugrad import AnotherPass, BatchLossInputs, ContractError, DataError, PluginError, loss

PLUGINS = """
import torch
from plugrad import BatchLossInputs, LossInputs, LossOutputs, Max, Mean, hookimpl, loss


def per_token_of(logprobs, inputs):
    return -inputs.advantages * (logprobs - inputs.inference_logprobs).exp()


@loss(needs={"again"}, passes=2)
def adversarial(inputs: BatchLossInputs, eps: float = 1.0, alpha: float = 0.5) -> LossOutputs:
    per_token = per_token_of(inputs.trainer_logprobs, inputs)
    g = inputs.sensitivity((per_token * inputs.loss_mask).sum())
    found = inputs.again(eps * torch.nn.functional.normalize(g, dim=-1))
    assert found.entropy is None
    moved = per_token_of(found.trainer_logprobs, inputs)
    metrics = {"rise": Mean.over(moved - per_token, inputs.loss_mask), "slots": Max(float(inputs.loss_mask.numel()))}
    return LossOutputs(per_token + alpha * moved, metrics)


@loss(needs={"again", "entropy"}, passes=2)
def with_entropy(inputs: BatchLossInputs) -> LossOutputs:
    g = inputs.sensitivity((inputs.trainer_logprobs * inputs.loss_mask).sum())
    found = inputs.again(0 * g)
    assert torch.equal(found.entropy, inputs.entropy) and torch.equal(found.trainer_logprobs, inputs.trainer_logprobs)
    return LossOutputs(per_token_of(found.trainer_logprobs, inputs) - found.entropy)


def plain(inputs: BatchLossInputs) -> LossOutputs:
    metrics = {"slots": Max(float(inputs.loss_mask.numel()))}
    return LossOutputs(per_token_of(inputs.trainer_logprobs, inputs), metrics)


@loss(needs={"again"}, passes=2)
def never_asks(inputs: BatchLossInputs) -> LossOutputs:
    return plain(inputs)


@loss(needs={"again"}, passes=2)
def asks_twice(inputs: BatchLossInputs) -> LossOutputs:
    g = inputs.sensitivity((inputs.trainer_logprobs * inputs.loss_mask).sum())
    return LossOutputs(inputs.again(g).trainer_logprobs + inputs.again(-g).trainer_logprobs)


@loss(needs={"again"}, passes=2)
def senses_twice(inputs: BatchLossInputs) -> LossOutputs:
    total = (inputs.trainer_logprobs * inputs.loss_mask).sum()
    return LossOutputs(inputs.again(inputs.sensitivity(total) + inputs.sensitivity(total)).trainer_logprobs)


@loss(needs={"again"}, passes=2)
def senses_a_mean(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(inputs.again(inputs.sensitivity(inputs.trainer_logprobs)).trainer_logprobs)


@loss(needs={"again"}, passes=2)
def senses_nothing(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(inputs.again(inputs.sensitivity(inputs.advantages.sum())).trainer_logprobs)


@loss(needs={"again"}, passes=2)
def shifts_tokens(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(inputs.again(inputs.advantages).trainer_logprobs)


@loss(needs={"again"}, passes=2)
def shifts_by_nan(inputs: BatchLossInputs) -> LossOutputs:
    g = inputs.sensitivity((inputs.trainer_logprobs * inputs.loss_mask).sum())
    return LossOutputs(inputs.again(g / 0).trainer_logprobs)


@loss(needs={"again"}, passes=2)
def goes_backward(inputs: BatchLossInputs) -> LossOutputs:
    per_token = per_token_of(inputs.trainer_logprobs, inputs)
    per_token.sum().backward(retain_graph=True)
    return LossOutputs(per_token)


@loss(needs={"again"}, passes=2)
def of_one_sequence(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(inputs.trainer_logprobs)


def did_not_ask(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(inputs.again(torch.zeros(1)).trainer_logprobs)


def did_not_ask_for_the_sensitivity(inputs: BatchLossInputs) -> LossOutputs:
    return LossOutputs(inputs.sensitivity(inputs.trainer_logprobs.sum()))


def of_one_sequence_that_did_not_ask(inputs: LossInputs) -> LossOutputs:
    return LossOutputs(inputs.again(torch.zeros(1)).trainer_logprobs)


@loss(needs=lambda options: {"again"} if options["alpha"] else set(), passes=2)
def if_asked_to(inputs: BatchLossInputs, alpha: float = 0.0) -> LossOutputs:
    assert (inputs.again is None) == (alpha == 0) == (inputs.sensitivity is None)
    return adversarial(inputs, alpha=alpha) if alpha else plain(inputs)


@loss(needs=lambda options: {"again"})
def without_passes(inputs: BatchLossInputs) -> LossOutputs:
    return plain(inputs)


class DropsOddRows:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        prepared = yield
        import dataclasses
        odd = (torch.arange(len(prepared.loss_mask)) % 2 == 1).unsqueeze(1)
        return dataclasses.replace(prepared, loss_mask=prepared.loss_mask & ~odd)


class AsksItself:
    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        prepared = yield
        # In the trial, log-probs are leaves and an embedding has 8 numbers.
        prepared.again(torch.zeros(*prepared.loss_mask.shape, 32 if prepared.trainer_logprobs.grad_fn else 8))
        return prepared
"""


@pytest.fixture
def train_on(write, run):
    def train_it(name="adversarial", kwargs=None, **tables):
        write("plugins.py", PLUGINS)
        return run(loss=[{"name": f"plugins.py:{name}", "kwargs": kwargs or {}}], metrics=[], **tables)

    return train_it


def of_steps(result, name):
    return [record[name] for record in result.records if name in record]


def test_moving_the_embeddings_towards_a_higher_loss_raises_it(train_on):
    rises = of_steps(train_on(), "adversarial/rise")
    assert len(rises) == 3
    assert all(rise > 0.0 for rise in rises)


def test_without_a_shift_a_further_pass_is_the_first(train_on):
    one = of_steps(train_on(kwargs={"eps": 0.0, "alpha": 1.0}), "grad_norm")
    other = of_steps(train_on("plain"), "grad_norm")
    assert one[0] == pytest.approx(2 * other[0], rel=1e-5)


def test_entropy_where_the_loss_needs_it(train_on):
    assert len(of_steps(train_on("with_entropy", max_steps=1), "loss")) == 1


def test_passes_that_a_loss_does_not_ask_for_change_nothing(train_on):
    asked, plain = train_on("never_asks").records, train_on("plain").records
    for name in ("loss", "grad_norm"):
        assert [record[name] for record in asked] == [record[name] for record in plain]


def test_the_passes_of_a_micro_batch_share_the_token_budget(train_on):
    rollout = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4}
    alone = max(of_steps(train_on("plain", rollout=rollout, tokens_per_micro_batch=80), "plain/slots"))
    shared = max(of_steps(train_on(rollout=rollout, tokens_per_micro_batch=80), "adversarial/slots"))
    assert 40 < alone <= 80
    assert 20 < shared <= 40
    with pytest.raises(DataError, match=r"tokens_per_micro_batch is 10, shared by 2 passes(.|\n)*raise .* to at least 16"):
        train_on(rollout=rollout, tokens_per_micro_batch=10)


def test_options_may_decide(train_on):
    assert train_on("if_asked_to", max_steps=1).records[-1]["loss"] is not None
    assert train_on("if_asked_to", {"alpha": 0.5}, max_steps=1).records[-1]["if_asked_to/rise"] > 0.0


def test_rows_that_an_extension_emptied_are_not_shifted(train_on):
    found = train_on(extension=[{"name": "plugins.py:DropsOddRows"}], max_steps=1)
    assert of_steps(found, "adversarial/rise")[0] > 0.0


def test_gradient_checkpointing(train_on):
    tables = [{"model": {"from_scratch": MODEL, "gradient_checkpointing": on, "dtype": "float32"}} for on in (False, True)]
    one, other = (of_steps(train_on(max_steps=1, **table), "grad_norm") for table in tables)
    assert one == pytest.approx(other, rel=1e-5)


MODEL = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
REFUSED = {
    "asks_twice": r"'asks_twice' .* calls inputs.again twice and declares passes=2(.|\n)*passes=3",
    "senses_twice": r"calls inputs.sensitivity twice before inputs.again",
    "senses_a_mean": r"calls inputs.sensitivity\(a tensor of float32 of shape \[.*it takes a scalar",
    "senses_nothing": r"of shape \[\], without gradient\); it takes a scalar with its gradient",
    "shifts_tokens": r"calls inputs.again\(a tensor .* of shape \[\d+, \d+, hidden\]",
    "shifts_by_nan": r"shift that is not finite(.|\n)*normalize\(g, dim=-1\)",
    "goes_backward": r"'goes_backward' .* calls backward\(\) itself",
    "did_not_ask": r"inputs.again is None(.|\n)*Write @loss\(needs=\{'again'\}, passes=2\)",
    "did_not_ask_for_the_sensitivity": r"Write @loss\(needs=\{'again'\}, passes=2\)",
    "of_one_sequence_that_did_not_ask": r"Write @loss\(needs=\{'again'\}, passes=2\)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_loss_that_asks_wrongly_is_named(train_on, name):
    with pytest.raises(ContractError, match=REFUSED[name]):
        train_on(name)


def test_an_extension_cannot_ask(train_on):
    with pytest.raises(ContractError, match="more often than the losses of the run declare, by an extension"):
        train_on(extension=[{"name": "plugins.py:AsksItself"}])


def test_needs_that_only_a_run_knows_are_checked_when_the_loss_is_loaded(train_on):
    with pytest.raises(PluginError, match=r"of_one_sequence.*annotate its argument with BatchLossInputs"):
        train_on("of_one_sequence")
    with pytest.raises(PluginError, match=r"without_passes.*Write passes=2"):
        train_on("without_passes")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"needs": {"again"}}, r"passes=1\): the first pass is one of them. Write passes=2 .* See .*test_another_pass.py"),
        ({"passes": 2}, r"passes=2\) without the need"),
        ({"needs": {"again"}, "passes": 0}, "it counts passes through the policy"),
        ({"needs": {"again"}, "passes": 2.0}, "it counts passes through the policy"),
        ({"needs": {"again"}, "passes": 2, "whole_batch": True}, "after the passes of all micro-batches"),
    ],
)
def test_a_marker_that_contradicts_itself_is_refused(facts, told):
    with pytest.raises(PluginError, match=told):
        loss(**facts)


def test_a_loop_of_ones_own_brings_its_own_passes(write, tmp_path):
    adversarial = plugrad.load("loss", f"{write('plugins.py', PLUGINS)}:adversarial", eps=0.5)
    embeddings = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]], requires_grad=True)

    def policy(embedded):
        return -embedded.square().sum(-1) / 10

    inputs = BatchLossInputs(
        trainer_logprobs=policy(embeddings),
        inference_logprobs=torch.tensor([[torch.nan, -1.0]]),
        advantages=torch.ones(1, 2),
        loss_mask=torch.tensor([[False, True]]),
        again=lambda shift: AnotherPass(policy(embeddings + shift)),
        sensitivity=lambda total: torch.autograd.grad(total, embeddings, retain_graph=True)[0],
    )
    found = adversarial(inputs).loss
    away = (3**2 + 1) ** 0.5 + 0.5
    expected = -torch.tensor([0.0]).exp() - 0.5 * torch.tensor([1 - away**2 / 10]).exp()
    torch.testing.assert_close(found[0, 1:], expected)
    with pytest.raises(ContractError, match=r"needs again: pass BatchLossInputs\(again=\.\.\.\)"):
        adversarial(replace(inputs, again=None))
    with pytest.raises(ContractError, match=r"inputs.sensitivity, which is None: pass BatchLossInputs\(again=\.\.\., sens"):
        adversarial(replace(inputs, sensitivity=None))
