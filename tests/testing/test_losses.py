"""The kit for losses: each broken one is found by the check that is made for it, and by no other; correct ones pass."""

import re
import sys
from pathlib import Path
from types import FunctionType

import broken_losses
import correct_losses
import mixing_losses
import pytest
import torch
import training_losses
from installed import ready

import plugrad
from plugrad import BatchLossInputs, LossInputs, LossOutputs
from plugrad.testing import CheckFailure, NotApplicable, NotRun, Outcome, checks_of, loss_checks, loss_inputs, run_checks

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


@pytest.mark.parametrize("name", correct_losses.CORRECT)
def test_a_correct_loss_is_not_blamed(name):
    assert not failed(results(f"{HERE / 'correct_losses.py'}:{name}"))


WORDS = {
    "reads_what_it_did_not_ask_for": [
        "inputs.old_logprobs is None",
        "Write @loss(needs={'old_logprobs'})",
        "broken_losses.py:",
    ],
    "asserts_what_it_did_not_ask_for": ["inputs.ref_logprobs is None", "Write @loss(needs={'entropy', 'ref_logprobs'})"],
    "hands_on_what_it_did_not_ask_for": ["inputs.old_logprobs is None", "Write @loss(needs={'old_logprobs'})"],
    "misspells_a_field": ["no attribute 'advantage'", "Did you mean 'advantages'?", "LossInputs has trainer_logprobs, "],
    "leaves_out_whose_log_probs": ["Did you mean 'trainer_logprobs' or 'inference_logprobs' or 'old_logprobs'"],
    "asks_for_tokens_that_it_does_not_read": ["a change of input_ids gives", "A field that is not read is a slip"],
    "looks_for_a_key": ["raised KeyError: 'short'", "A run stops with this error", "Look at", "broken_losses.py:"],
    "reads_a_column": [
        "raised KeyError: the example has no column 'difficulty'",
        "have the columns example_id",
        """--example '{"difficulty": 1}'""",
    ],
    "returns_a_scalar": ["returned a scalar", "would depend on how the batch was cut", "Return one loss per token"],
    "clears_masked_slots_of_a_ratio": ["changed a tensor in place", "Write x = torch.where(inputs.loss_mask, x, 0.0)"],
    "LearnsATemperature": ["has a parameter of its own: self.temperature, of shape [1]", "Make it an option"],
    "HoldsAHead": ["has a parameter of its own: self.heads['value'].weight, of shape [1, 1]"],
    "scales_by_a_global": ["has a parameter of its own: SHARED, of shape [2]"],
    "scales_by_what_a_helper_holds": ["has a parameter of its own: a tensor, of shape [2]"],
    "clears_masked_slots_of_its_inputs": ["of its inputs in place", "Work on a copy"],
    "takes_the_mean_of_a_sequence": ["a mean stays where a sum doubles", 'choose reduction="sequence"'],
    "detaches_the_log_prob": ["descending on it lowers its log-prob", "not the log-prob", "policy_gradient=False"],
    "has_the_sign_the_wrong_way_round_and_no_marker": ["a token with the advantage 1 has the gradient 1"],
    "drops_a_token_after_exp": ["nats above the other policies and the advantage 1, its gradient", "plugrad.finite_exp"],
    "clamps_a_penalty": ["100 nats above ref_logprobs the gradient of a token is 0, but 1", "Do not clamp a log-ratio"],
    "clamps_the_log_probs": ["100 nats down, with every policy there, the gradient of a token is 0, but", "Do not clamp"],
    "divides_by_the_deviation_of_advantages": ["with one advantage each", "whose deviation is 0: add a number"],
    "divides_by_the_size_of_advantages": ["without advantages are [nan", "add a number to what you divide by"],
    "takes_the_root_of_a_difference": ["on policy is not finite", "no finite gradient at 0"],
    "has_an_epsilon_that_float32_rounds_to_zero": ["is not finite in float32", "a division by zero"],
    "has_an_epsilon_that_float16_rounds_to_zero": ["in float16, but finite in float32", "an epsilon of 1e-8 is 0 there"],
    "has_an_epsilon_that_float16_rounds_to_zero_far_off": ["an epsilon of 1e-8 is 0 there", "plugrad.at_least_float32(x)"],
    "KeepsItsLosses": ["keeps a tensor with its graph: self.kept[0]", "Keep x.detach()"],
    "KeepsGraphsFurtherDown": ["self.latest['sequences'][0][1]['log-probs']"],
    "KeepsItsInputs": ["self.latest.trainer_logprobs"],
    "keeps_its_losses_in_a_global": ["its graph: KEPT[0]"],
    "divides_by_the_root_of_the_length": ["each of them has 0.707 of its gradient", 'choose reduction="sequence"'],
    "takes_the_larger_of_two_objectives": ["is raised 1 nats above the sampling policy, and no longer below it"],
    "clips_on_both_sides": [
        "1 nats below the sampling policy with a positive advantage has no gradient",
        "ever pulled back",
    ],
    "widens_its_inputs_to_float32": [
        "computes in float32 whatever it is given",
        "broken_losses.py:",
        "So padding fails: With five more columns",
        " changes from 1.35711 by ",
        "plugrad.at_least_float32(x)",
    ],
    "reports_a_metric_in_float32": ["the metric 'mean' does not follow", "in float32", "So metrics_add_up fails"],
    "computes_in_float16": ["computes in float16 whatever"],
    "has_a_ratio_in_bfloat16": ["computes in bfloat16 whatever"],
    "subtracts_nearly_equal_numbers": ["with policies 0.0001 nats apart", "plugrad.k3(d)"],
    "averages_praise": ["'praised' is nan", "The mean of no token is NaN"],
    "changes_its_mind": ["is now a", "stops at the second micro-batch"],
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_said_is_what_happened(name):
    [bad] = [result for result in results(f"{HERE / 'broken_losses.py'}:{name}") if result.is_bad]
    said = f"{bad.seen} {bad.why} {bad.fix}"
    assert not [words for words in WORDS[name] if words not in said], said


def test_what_follows_from_a_failure_is_not_run_and_says_so():
    found = {
        result.check.name: result for result in results(broken_losses.averages_over_the_micro_batch_and_says_so_in_a_metric)
    }
    for name in ("own_sequence", "emptied_rows", "sums_tokens", "metrics_add_up", "far_direction"):
        assert (found[name].outcome, found[name].seen) == (Outcome.NOT_RUN, "needs micro_batches, which failed")


@pytest.mark.parametrize(
    ("name", "cause", "waiting"),
    [
        ("drops_tokens_at_random", "deterministic", {"precision", "padding", "permutation", "bfloat16", "metrics_add_up"}),
        ("passes_through_float32", "precision", {"padding", "gradcheck", "metrics_add_up", "state"}),
    ],
)
def test_no_comparison_is_run_of_numbers_that_are_drawn_or_rounded(name, cause, waiting):
    found = {result.check.name: result for result in results(getattr(broken_losses, name))}
    assert {found[check].seen for check in waiting} == {f"needs {cause}, which failed"}
    assert found["options_from_toml"].outcome is Outcome.KEPT


def test_two_ranks_are_not_blamed_for_a_metric_of_the_wrong_type():
    found = {r.check.name: r for r in results(f"{HERE / 'broken_losses.py'}:reports_text", processes=True)}
    assert failed(found.values()) == {"metrics"}
    assert found["one_rank_equals_two"].seen == "needs metrics, which failed"


def test_a_check_that_is_called_alone_runs_what_it_comes_after():
    checks = {check.name: check for check in loss_checks(broken_losses.counts_the_width)}
    with pytest.raises(NotRun, match="needs padding, which failed"):
        checks["metrics_add_up"]()


@pytest.mark.parametrize(
    ("name", "facts", "check", "said"),
    [
        ("takes_the_mean_of_a_row", {"sums_tokens": False}, "sums_tokens", "it declares sums_tokens=False"),
        ("takes_the_mean_of_a_row", {"reduction": "sequence_sum"}, "sums_tokens", "each sequence may count once"),
        (
            "has_the_sign_the_wrong_way_round",
            {"policy_gradient": False},
            "advantage_sign",
            "it declares policy_gradient=False",
        ),
    ],
)
def test_a_promise_that_is_declared_away_is_not_checked(name, facts, check, said):
    undone = FunctionType(getattr(broken_losses, name).__code__, vars(broken_losses), name)
    undone.__annotations__ = getattr(broken_losses, name).__annotations__
    found = {result.check.name: result for result in results(plugrad.loss(**facts)(undone))}
    assert found[check].outcome is Outcome.NOT_APPLICABLE
    assert said in found[check].seen


def test_a_column_that_the_author_names_is_there():
    found = run_checks(
        [c for c in loss_checks(broken_losses.reads_a_column, example={"difficulty": 2.0}) if c.name == "runs"]
    )
    assert [result.outcome for result in found] == [Outcome.KEPT]


def test_at_least_twenty_broken_losses_and_every_check():
    assert len(broken_losses.BROKEN) >= 20
    checks = {check.name for check in loss_checks("ppo_clip", strict=True)}
    broken = {**broken_losses.BROKEN, **mixing_losses.BROKEN, **training_losses.BROKEN}
    assert {check for check, _ in broken.values()} == checks - {"import_effects"}


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
    of_others = {"resumes", "after_update", "row_order", "nothing_to_compare", "parameters", "parameters_over_cuts"}
    assert {r.check.name for r in found if r.outcome is not Outcome.KEPT} == of_others


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
    assert found["resumes"].seen == "the same to the bit, with length saved"
    assert found["after_update"].outcome is Outcome.KEPT


def test_a_loss_that_says_that_it_depends_on_the_cut_is_believed():
    def by_its_own_counts(inputs: BatchLossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.advantages / inputs.loss_mask.sum())

    found = results(plugrad.loss(cut_dependent=True)(by_its_own_counts))
    assert failed(found) == {"pickles"}
    skipped = {result.check.name for result in found if result.outcome is Outcome.NOT_APPLICABLE}
    assert {"permutation", "micro_batches", "emptied_rows", "metrics_add_up", "sums_tokens"} <= skipped


def test_one_sequence_may_be_divided_by_its_own_length_if_it_says_so():
    found = results(f"{HERE / 'test_losses.py'}:mean_of_a_sequence", scale=3.0)
    assert not failed(found)


@plugrad.loss(sums_tokens=False)
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


def floods(inputs: BatchLossInputs) -> LossOutputs:
    sys.stdout.write(f"loss of {inputs.trainer_logprobs}\n")
    sys.stderr.write("a warning\n")
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages)


def test_what_a_loss_prints_is_reported_once_and_counted(capsys, caplog):
    assert not failed(results(floods))
    assert capsys.readouterr() == ("", "")
    printed, errors = (record.getMessage() for record in caplog.records)
    assert "writes to standard error: 'a warning a warning" in errors
    assert "prints: 'loss of tensor([[" in printed
    assert int(re.search(r"and so on, (\d+) lines", printed)[1]) > 500
    assert len(printed) < 500


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
