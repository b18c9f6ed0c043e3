"""However a batch is cut into micro-batches, the update is the same: in float64, to 1e-9."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from scenario import ALL_AT_ONCE, REDUCTIONS, SEVERAL, Scenario, assert_same, losses, recorded, three_steps

from plugrad.policy.micro_batches import Layout
from plugrad.rollout.segments import longest_row
from plugrad.testing import tiny_model
from plugrad.trainer.batch.cut import Cutting
from plugrad.trainer.ranks.ranks import Ranks

HERE = str(Path(__file__).parent)


@cache
def whole(scenario):
    result = three_steps(scenario, Accelerator(cpu=True))
    assert result.num_micro_batches == 1
    return result


def cut(scenario):
    return three_steps(scenario, Accelerator(cpu=True))


def one_loss(reduction, name="ppo_clip"):
    return ((name, 1.0, reduction),)


def budget_for(scenario, num_micro_batches):
    """Return a budget under which the batch is cut into so many."""
    batch, ranks = recorded(scenario, Ranks()), Ranks()
    for budget in range(max(map(longest_row, batch.rollouts)), 400):
        (only,) = Cutting(1, 16, Layout(budget, 0, torch.float64)).cut(batch, ranks)
        if len(only.micro_batches) == num_micro_batches:
            return budget
    raise AssertionError(f"no budget cuts this batch into {num_micro_batches}")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 7])
def test_into_so_many_micro_batches(reduction, num_micro_batches):
    scenario = Scenario(seed=8, terms=one_loss(reduction))
    found = cut(replace(scenario, budget=budget_for(scenario, num_micro_batches)))
    assert found.num_micro_batches == num_micro_batches
    assert_same(found, whole(scenario))


@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 7])
def test_several_losses_with_their_own_reductions(num_micro_batches):
    scenario = Scenario(seed=8, terms=SEVERAL)
    assert_same(cut(replace(scenario, budget=budget_for(scenario, num_micro_batches))), whole(scenario))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 7])
def test_a_loss_of_the_whole_batch(reduction, num_micro_batches):
    scenario = Scenario(seed=8, terms=(("forms.py:contrasts", 0.7, reduction), *SEVERAL), folder=HERE, updates_per_batch=2)
    expected = whole(scenario)
    assert expected.records[0][f"contrasts/{reduction}/rows"] == 6.0, "all rows of an update at once"
    budget = budget_for(replace(scenario, updates_per_batch=1), num_micro_batches)
    assert_same(cut(replace(scenario, budget=budget, extra_padding=2)), expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [2, 7])
def test_rollouts_of_several_turns_and_segments(reduction, num_micro_batches):
    terms = (*one_loss(reduction), *SEVERAL, ("forms.py:clipped_values", 0.5, reduction))
    scenario = Scenario(seed=5, terms=terms, folder=HERE, critic=True, turns=True)
    segments = [len(rollout["segments"]) for rollout in recorded(scenario, Ranks()).rollouts]
    assert {1, 2, 3} == set(segments)
    assert_same(cut(replace(scenario, budget=budget_for(scenario, num_micro_batches))), whole(scenario))


def test_segments_in_a_loss_of_the_whole_batch():
    at_once, by_rows = (
        Scenario(seed=5, terms=((f"forms.py:{form}", 1.0, "token"),), folder=HERE, turns=True)
        for form in ("by_whole_batch", "by_batch")
    )
    found, expected = cut(replace(at_once, budget=budget_for(at_once, 7))), whole(by_rows)
    for ours, theirs in zip(found.gradients[0], expected.gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("num_micro_batches", [2, 7])
def test_an_adapter(num_micro_batches):
    scenario = Scenario(seed=8, terms=(*SEVERAL, ("forms.py:contrasts", 0.7, "group")), folder=HERE, lora=(("r", 4),))
    assert_same(cut(replace(scenario, budget=budget_for(scenario, num_micro_batches))), whole(scenario))


def gradients_of_peft(scenario):
    """Return those of the mean cross-entropy of all tokens, by PEFT and PyTorch alone."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights="orthogonal", use_dora=True)
    model = get_peft_model(tiny_model(dtype="float64"), config)
    logprobs = []
    for group in recorded(scenario, Ranks()).groups:
        for rollout in group:
            ids = torch.tensor([rollout["prompt_ids"] + rollout["completion_ids"]])
            scores = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])
            logprobs.append(scores[len(rollout["prompt_ids"]) - 1 :])
    (-torch.cat(logprobs).mean()).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradients_of_an_adapter_are_those_of_peft_in_plain_pytorch(checkpointing):
    lora = (("r", 4), ("init", "orthogonal"), ("dora", True))
    scenario = Scenario(seed=3, terms=one_loss("token", "cross_entropy"), budget=40, lora=lora, checkpointing=checkpointing)
    found, expected = cut(scenario), gradients_of_peft(scenario)
    assert found.num_micro_batches > 1
    trained = [gradient for gradient in found.gradients[0] if gradient.dim()]
    assert len(trained) == len(expected) == 2 * 7 * 3
    norm = torch.stack([gradient.norm() for gradient in expected]).norm()
    assert abs(found.records[0]["grad_norm"] - norm) < 1e-9
    for gradient, own in zip(trained, expected, strict=True):
        # They were clipped to a norm of 0.05.
        torch.testing.assert_close(gradient * (norm + 1e-6) / 0.05, own, rtol=1e-9, atol=1e-12)


def test_what_a_loss_of_the_whole_batch_draws():
    scenario = Scenario(seed=8, terms=one_loss("token", "forms.py:draws"), folder=HERE)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=30, extra_padding=1)), expected)
    assert len({record["loss"] for record in expected.records}) == 3


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("task", ["math", "code", ("math", "code"), "absent"])
def test_a_loss_of_some_examples(reduction, task):
    scenario = Scenario(
        seed=3, terms=(("ppo_clip", 1.0, reduction), ("entropy_bonus", 0.1, "token")), where=(("task", task),)
    )
    assert_same(cut(replace(scenario, budget=30)), whole(scenario))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_loss_of_some_examples_is_that_of_a_batch_of_these(reduction):
    all_four = Scenario(seed=3, terms=one_loss(reduction), where=(("task", ("math", "code")),), budget=30)
    assert_same(cut(all_four), whole(Scenario(seed=3, terms=one_loss(reduction))))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 7])
@pytest.mark.parametrize("form", ["clipped_values", "explains"])
def test_a_critic(form, reduction, num_micro_batches):
    scenario = Scenario(
        seed=8, terms=(("ppo_clip", 1.0, "token"), (f"forms.py:{form}", 0.5, reduction)), folder=HERE, updates_per_batch=2,
        critic=True,
    )  # fmt: skip
    budget = budget_for(replace(scenario, updates_per_batch=1), num_micro_batches)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=budget, extra_padding=2)), expected)
    losses_of_values = [record[f"{form}/{reduction}/loss"] for record in expected.records]
    assert losses_of_values[-1] != losses_of_values[0]


@pytest.mark.parametrize("num_micro_batches", [3, 7])
def test_metrics_on_held_out_completions(num_micro_batches):
    terms = (*SEVERAL, ("forms.py:clipped_values", 0.5, "group"))
    scenario = Scenario(seed=8, terms=terms, folder=HERE, critic=True, empty=True, evaluates=True)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=budget_for(scenario, num_micro_batches))), expected)
    record = expected.records[-1]
    assert {"eval/entropy/mean", "eval/some/of_models/values", "eval/some/reward/mean"} <= record.keys()
    for name in ("trainer_logprobs", "values", "ref_logprobs", "entropy", "advantages"):
        assert record[f"eval/some/of_models/{name}"] != record[f"eval/of_models/{name}"]
    # Nothing of training depends on it.
    plain = whole(replace(scenario, evaluates=False))
    of_training = [{k: v for k, v in record.items() if not k.startswith("eval/")} for record in expected.records]
    assert_same(replace(expected, records=of_training), plain)


AGAIN = ("adversarial", "adversarial_in_two_steps", "now_and_then")


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [3, 7])
@pytest.mark.parametrize("form", AGAIN)
def test_a_loss_with_further_passes(form, reduction, num_micro_batches):
    scenario = Scenario(
        seed=8, terms=((f"forms.py:{form}", 0.7, reduction), ("ppo_clip", 1.0, "token")), folder=HERE, updates_per_batch=2
    )
    budget = budget_for(replace(scenario, updates_per_batch=1), num_micro_batches)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=budget, extra_padding=2)), expected)
    if form == "adversarial":
        assert expected.records[0]["adversarial/" + reduction + "/rise"] > 0.0


@pytest.mark.parametrize("lacking", [{"dead_group": True}, {"empty": True}, {"where": (("task", "math"),)}])
def test_further_passes_where_rows_are_left_out(lacking):
    terms = tuple((f"forms.py:{form}", 0.7, "group") for form in AGAIN)
    scenario = Scenario(seed=3, terms=terms, folder=HERE, **lacking)
    assert_same(cut(replace(scenario, budget=30)), whole(scenario))


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "granite"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_further_passes_of_other_models(model_type, checkpointing):
    terms = one_loss("token", "forms.py:adversarial_in_two_steps")
    scenario = Scenario(seed=7, terms=terms, folder=HERE, model=(("model_type", model_type),))
    assert_same(cut(replace(scenario, budget=30, checkpointing=checkpointing)), whole(scenario))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [1, 2, 3, 7])
@pytest.mark.parametrize("form", ["Uncertain", "Probes", "Tempered"])
def test_a_loss_with_parameters(form, reduction, num_micro_batches):
    terms = (("ppo_clip", 1.0, "token"), (f"forms.py:{form}", 0.1, reduction))
    scenario = Scenario(seed=8, terms=terms, folder=HERE, updates_per_batch=2)
    budget = budget_for(replace(scenario, updates_per_batch=1), num_micro_batches)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=budget, extra_padding=2)), expected)
    num_of_model = len(whole(replace(scenario, terms=terms[:1])).parameters)
    for gradients in expected.gradients:
        learned = [gradient for gradient in gradients[num_of_model:] if gradient.ndim]
        assert learned
        assert all(bool(gradient.all()) for gradient in learned)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_micro_batches", [2, 7])
@pytest.mark.parametrize("teachers", [("one",), ("math", "code"), ("!",), ("math", "code!")], ids="+".join)
def test_divergences_from_teachers(teachers, reduction, num_micro_batches):
    forms = (("follows", 1.0, reduction), ("follows_half", 0.5, "token"), ("follows_the_worst", 0.2, reduction))
    scenario = Scenario(
        seed=6, terms=tuple((f"forms.py:{form}", *rest) for form, *rest in forms), folder=HERE, updates_per_batch=2,
        teachers=teachers,
    )  # fmt: skip
    budget = budget_for(replace(scenario, updates_per_batch=1), num_micro_batches)
    # What the policy reads as its own teacher is longer.
    budget += 10 * any("!" in name for name in teachers)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=budget, extra_padding=2)), expected)
    assert expected.records[0][f"follows/{reduction}/divergence"] > 0.0001


@pytest.mark.parametrize("teachers", [("one",), ("math", "code")])
def test_a_divergence_is_that_of_whole_logits(teachers):
    scenario = Scenario(seed=6, terms=(("forms.py:distils", 1.0, "token"),), folder=HERE, teachers=teachers)
    blocks = replace(scenario, terms=(("forms.py:follows", 1.0, "token"),), options=(("temperature", 1.0),))
    found, expected = whole(blocks), whole(scenario)
    for mine, its in zip(found.gradients, expected.gradients, strict=True):
        for gradient, other in zip(mine, its, strict=True):
            torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("updates_per_batch", [2, 4])
def test_several_updates_of_one_batch(updates_per_batch):
    scenario = Scenario(seed=2, terms=SEVERAL, updates_per_batch=updates_per_batch)
    assert_same(cut(replace(scenario, budget=25)), whole(scenario))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("lacking", [{"dead_group": True}, {"empty": True}, {"dead_group": True, "empty": True}])
def test_groups_without_advantage_and_sequences_without_a_counted_token(reduction, lacking):
    scenario = Scenario(seed=3, terms=one_loss(reduction), **lacking)
    assert_same(cut(replace(scenario, budget=30)), whole(scenario))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_order_of_groups_and_sequences(reduction):
    scenario = Scenario(seed=4, terms=one_loss(reduction))
    assert_same(cut(replace(scenario, budget=30, turned=True)), whole(scenario))


@pytest.mark.parametrize("extra_padding", [1, 9])
def test_padding(extra_padding):
    scenario = Scenario(seed=4, terms=SEVERAL)
    assert_same(cut(replace(scenario, budget=30, extra_padding=extra_padding)), whole(scenario))


@pytest.mark.parametrize("budget", [30, ALL_AT_ONCE])
def test_gradient_checkpointing(budget):
    scenario = Scenario(seed=5, terms=SEVERAL)
    assert_same(cut(replace(scenario, budget=budget, checkpointing=True)), whole(scenario))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_form_of_a_loss(reduction):
    by_batch, by_sequence = (
        Scenario(seed=6, terms=one_loss(reduction, f"forms.py:{form}"), folder=HERE) for form in ("by_batch", "by_sequence")
    )
    assert losses(by_batch)[0].component.form != losses(by_sequence)[0].component.form
    found, wanted = cut(replace(by_sequence, budget=30)), whole(by_batch)
    renamed = [{k.replace("by_sequence", "by_batch"): v for k, v in record.items()} for record in found.records]
    assert_same(replace(found, records=renamed), wanted)


@pytest.mark.parametrize("updates_per_batch", [1, 2])
def test_a_loss_that_learns_of_every_update(updates_per_batch):
    terms = one_loss("token", "forms.py:Adaptive")
    scenario = Scenario(seed=8, terms=terms, folder=HERE, updates_per_batch=updates_per_batch)
    expected = whole(scenario)
    assert_same(cut(replace(scenario, budget=30)), expected)
    coefficients = [record["Adaptive/token/coefficient"] for record in expected.records]
    assert len(set(coefficients)) == 3 * updates_per_batch, "it moves after every update"


@pytest.mark.parametrize("form", ["gaps_by_sequence", "gaps_by_batch"])
@pytest.mark.parametrize("num_micro_batches", [1, 3, 7])
def test_a_metric_that_some_sequences_lack_counts_the_others(form, num_micro_batches):
    scenario = Scenario(seed=8, terms=one_loss("token", f"forms.py:{form}"), folder=HERE)
    lengths = [len(rollout["completion_ids"]) for group in recorded(scenario, Ranks()).groups for rollout in group]
    even = [length for length in lengths if length % 2 == 0]
    assert 0 < len(even) < len(lengths)
    record = cut(replace(scenario, budget=budget_for(scenario, num_micro_batches))).records[0]
    assert record[f"{form}/token/even"] == pytest.approx(sum(even) / len(even), rel=1e-12)
    never = record.get(f"{form}/token/never", float("nan"))
    assert never != never


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "granite"])
def test_other_models(model_type):
    scenario = Scenario(seed=7, terms=SEVERAL, model=(("model_type", model_type),))
    assert_same(cut(replace(scenario, budget=30)), whole(scenario))


@pytest.mark.parametrize("model_type", ["cohere", "gemma3_text"])
def test_models_that_multiply_their_norms_weights_in_float32(model_type):
    # Gradients of those weights are sums in float32, over rows in another order: the cut shows in their eighth digit.
    scenario = Scenario(seed=7, terms=SEVERAL, model=(("model_type", model_type),))
    found, expected = cut(replace(scenario, budget=30)), whole(scenario)
    for record, wanted in zip(found.records[:1], expected.records[:1], strict=True):
        assert record["loss"] == pytest.approx(wanted["loss"], rel=1e-9)
    largest = max(float(gradient.abs().max()) for gradient in expected.gradients[0])
    for gradient, wanted in zip(found.gradients[0], expected.gradients[0], strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-7 * largest)


@given(
    st.builds(
        Scenario,
        seed=st.integers(0, 10_000),
        terms=st.lists(
            st.tuples(
                st.sampled_from(["ppo_clip", "importance_sampling", "entropy_bonus", "kl_to_reference", "cross_entropy"]),
                st.sampled_from([1.0, 0.3]),
                st.sampled_from(REDUCTIONS),
            ),
            min_size=1,
            max_size=3,
            unique_by=lambda term: (term[0], term[2]),
        ).map(tuple),
        updates_per_batch=st.sampled_from([1, 2, 4]),
        dead_group=st.booleans(),
        empty=st.booleans(),
    ),
    st.integers(17, 150),
    st.sampled_from([0, 3]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_batch_cut_anywhere(scenario, budget, extra_padding):
    assert_same(cut(replace(scenario, budget=budget, extra_padding=extra_padding)), whole(scenario))


@pytest.mark.parametrize("wrong", ["mean_of_its_own", "CountsItsCalls"])
def test_a_loss_that_depends_on_the_cut_is_seen_here(wrong):
    scenario = Scenario(seed=7, terms=one_loss("sequence_sum", f"forms.py:{wrong}"), folder=HERE)
    found, wanted = (result.records[0]["loss"] for result in (cut(replace(scenario, budget=30)), whole(scenario)))
    assert abs(found - wanted) > 0.1 * abs(wanted)
