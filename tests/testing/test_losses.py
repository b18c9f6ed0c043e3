"""The kit for losses: each broken one is found by the check that is made for it, and by no other; correct ones pass."""

from pathlib import Path

import broken_losses
import pytest
import torch
from installed import ready

import plugrad
from plugrad import BatchLossInputs, LossInputs, LossOutputs
from plugrad.testing import CheckFailure, NotApplicable, Outcome, checks_of, loss_checks, loss_inputs, run_checks

PROCESSES = {"import_effects", "one_rank_equals_two"}
"""The checks that start processes: seconds each."""
STRICT = {"masked_nan"}
HERE = Path(__file__).parent


def results(loss, *, processes=False, strict=False, **options):
    checks = loss_checks(loss, options=options, strict=strict)
    return run_checks([check for check in checks if processes or check.name not in PROCESSES])


def failed(found):
    return {result.check.name for result in found if result.outcome is Outcome.FAILED}


@pytest.mark.parametrize("name", broken_losses.BROKEN)
def test_a_broken_loss_is_found_by_the_check_made_for_it(name):
    check, expected = broken_losses.BROKEN[name]
    reference = f"{HERE / 'broken_losses.py'}:{name}"
    assert failed(results(reference, processes=check in PROCESSES, strict=check in STRICT)) == expected


def test_at_least_twenty_broken_losses_and_every_check():
    assert len(broken_losses.BROKEN) >= 20
    checks = {check.name for check in loss_checks("ppo_clip", strict=True)}
    assert {check for check, _ in broken_losses.BROKEN.values()} == checks - {"import_effects"}


def test_what_an_import_does_besides_is_found():
    found = results(f"{HERE / 'seeds_at_import.py'}:seeded", processes=True)
    assert failed(found) == {"import_effects"}
    [seen] = [result.seen for result in found if result.check.name == "import_effects"]
    assert "torch's random numbers" in seen
    assert "it prints 'ready'" in seen


@pytest.mark.parametrize("entry", ready("loss"), ids=lambda entry: f"{entry.package}/{entry.name}")
def test_every_installed_loss_passes(entry):
    assert not failed(results(f"{entry.package}/{entry.name}"))


@pytest.mark.parametrize("name", ["plugrad/ppo_clip", "plugrad-example/soft_clip"])
def test_two_losses_pass_every_check_and_the_strict_one(name):
    found = results(name, processes=True, strict=True)
    assert {r.check.name for r in found if r.outcome is not Outcome.KEPT} == {"after_update"}


def test_a_failure_says_what_was_seen_why_it_matters_and_the_fix():
    check = next(c for c in loss_checks(broken_losses.divides_by_its_own_counts) if c.name == "micro_batches")
    with pytest.raises(CheckFailure) as failure:
        check()
    assert "the loss 'divides_by_its_own_counts'" in str(failure.value)
    assert "Cut into micro-batches of 3, 4, the loss of sequence 0 (7 counted tokens) changes from" in str(failure.value)
    assert "must not change what is learned" in str(failure.value)
    assert "loss_mask.sum()" in str(failure.value)


def test_a_loss_that_learns_of_updates_and_saves_what_it_learned_passes():
    found = {result.check.name: result for result in results(f"{HERE / 'broken_losses.py'}:LearnsAndSaves")}
    assert not failed(found.values())
    assert found["state"].seen.startswith("declared; no difference")
    assert found["after_update"].outcome is Outcome.KEPT


def test_a_loss_that_says_that_it_depends_on_the_cut_is_believed():
    def by_its_own_counts(inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.advantages / inputs.loss_mask.sum())

    found = results(plugrad.loss(cut_dependent=True)(by_its_own_counts))
    assert failed(found) == {"pickles"}
    skipped = {result.check.name for result in found if result.outcome is Outcome.NOT_APPLICABLE}
    assert {"permutation", "micro_batches", "emptied_rows", "metrics_add_up"} <= skipped


def test_one_sequence_may_be_divided_by_its_own_length():
    found = results(f"{HERE / 'test_losses.py'}:mean_of_a_sequence", scale=3.0)
    assert not failed(found)


def mean_of_a_sequence(inputs: LossInputs, scale: float = 1.0) -> LossOutputs:
    counted = inputs.loss_mask
    return LossOutputs(-scale * (inputs.trainer_logprobs * inputs.advantages)[counted].mean())


def test_where_a_loss_cannot_be_called_the_other_checks_are_not_run():
    found = results(broken_losses.reads_what_it_did_not_ask_for)
    assert found[0].outcome is Outcome.FAILED
    assert {result.outcome for result in found[1:]} == {Outcome.NOT_RUN}


def test_what_a_loss_takes_out_of_the_graph_is_held_fixed():
    def detached_ratio(inputs: LossInputs) -> LossOutputs:
        ratio = (inputs.trainer_logprobs - inputs.inference_logprobs).exp().detach()
        with torch.no_grad():
            cap = (inputs.trainer_logprobs * 2).sigmoid()
        size = inputs.trainer_logprobs.sum().item()
        return LossOutputs(-ratio * cap * size * inputs.advantages * inputs.trainer_logprobs)

    [check] = [check for check in loss_checks(detached_ratio) if check.name == "gradcheck"]
    assert "what it detaches held fixed" in check()


def test_checks_leave_the_random_state_as_it_was():
    before = torch.get_rng_state()
    results("plugrad-policy/clip_cov")
    assert torch.equal(before, torch.get_rng_state())


def test_a_loss_defined_in_a_function_is_not_sought_by_other_processes():
    def local(inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.advantages)

    checks = {check.name: check for check in checks_of(local)}
    for name in PROCESSES:
        with pytest.raises(NotApplicable, match="no other process can import it"):
            checks[name]()


def test_the_inputs_are_those_that_were_asked_for():
    inputs = loss_inputs([3, 1], seed=4, drift=0.1, step=7)
    assert inputs.loss_mask.sum(dim=1).tolist() == [3, 1]
    assert not inputs.loss_mask[:, :2].any()
    assert (inputs.old_logprobs - inputs.trainer_logprobs).abs().max() <= 0.1
    assert inputs.step == 7
    own = inputs.logits.log_softmax(dim=2).gather(2, inputs.input_ids.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(own[inputs.loss_mask], inputs.trainer_logprobs[inputs.loss_mask])
    assert torch.equal(inputs.trainer_logprobs, loss_inputs([3, 1], seed=4).trainer_logprobs)
    advantages = torch.ones(2, 5, dtype=torch.double)
    assert loss_inputs([3, 1], advantages=advantages).advantages is advantages
