"""The kit for advantages: each broken one is found by the check that is made for it, and by no other; correct ones pass."""

import broken_advantages
import pytest
import torch
from installed import ready

from plugrad import AdvantageInputs, AdvantageOutputs, OptionError, advantage
from plugrad.testing import Outcome, advantage_checks, run_checks
from plugrad.testing.inputs import rollouts

PROCESSES = {"import_effects"}
OPTIONS = [
    ("grpo", {"leave_one_out": True}),
    ("grpo", {"unbiased": False}),
    ("grpo", {"leave_one_out": True, "unbiased": False}),
    ("reinforce_plus_plus", {"over": "rollouts"}),
    ("reinforce_plus_plus_baseline", {"over": "rollouts"}),
    ("passk", {"k": 2}),
    ("passk", {"k": 8}),
    ("passk", {"k": 20}),
    ("constant", {"value": 0.0}),
]


def results(component, **options):
    checks = advantage_checks(component, options=options)
    return run_checks([check for check in checks if check.name not in PROCESSES])


def failed(found):
    return {result.check.name for result in found if result.outcome is Outcome.FAILED}


def seen(component, name, **options):
    [text] = [result.seen for result in results(component, **options) if result.check.name == name]
    return text


@pytest.mark.parametrize("name", broken_advantages.BROKEN)
def test_a_broken_advantage_is_found_by_the_check_made_for_it(name):
    target, expected = broken_advantages.BROKEN[name]
    assert failed(results(target)) == expected


def test_every_check_that_can_fail_has_one_that_fails_it():
    checks = {check.name for check in advantage_checks("group_mean")}
    never = {"scale_and_shift"}
    # Those of every kind are tried with losses.
    of_every_kind = {"pickles", "import_effects"}
    assert set().union(*(names for _, names in broken_advantages.BROKEN.values())) == checks - never - of_every_kind


@pytest.mark.parametrize("entry", ready("advantage"), ids=lambda entry: f"{entry.package}/{entry.name}")
def test_every_installed_advantage_passes(entry):
    assert not failed(results(f"{entry.package}/{entry.name}"))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_they_pass_with_other_options_too(name, options):
    assert not failed(results(name, **options))


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("group_mean", "rewards + 10: unchanged; rewards x 10: advantages x 10"),
        ("group_normalized", "rewards + 10: unchanged; rewards x 10: unchanged"),
        ("maxrl", "rewards + 10: other advantages; rewards x 10: unchanged"),
        ("rae", "rewards + 10: other advantages; rewards x 10: advantages x 10"),
        ("constant", "rewards + 10: unchanged; rewards x 10: unchanged"),
    ],
)
def test_what_a_shift_and_a_scale_do_is_reported(name, effect):
    assert seen(name, "scale_and_shift") == effect


def test_an_advantage_that_refuses_large_rewards_reports_that():
    def of_zero_and_one(inputs: AdvantageInputs) -> AdvantageOutputs:
        if inputs.rewards.max() > 1:
            raise ValueError("rewards are between 0 and 1")
        return AdvantageOutputs(inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True))

    found = seen(of_zero_and_one, "scale_and_shift")
    assert found.count("refused") == 2
    assert "rewards are between 0 and 1" in found


@pytest.mark.parametrize(
    ("name", "reported"),
    [("group_mean", "lengths change nothing"), ("opo", "lengths matter"), ("reinforce_plus_plus", "lengths matter")],
)
def test_whether_lengths_matter_is_reported(name, reported):
    assert reported in seen(name, "lengths")


def test_one_value_per_token_passes():
    @advantage(min_rollouts_per_example=2)
    def discounted(inputs: AdvantageInputs, gamma: float = 0.9) -> AdvantageOutputs:
        centred = inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True)
        groups = zip(centred, inputs.completion_lengths.tolist(), strict=True)
        return AdvantageOutputs(
            [[a * gamma ** torch.arange(n - 1, -1, -1) for a, n in zip(row, sizes, strict=True)] for row, sizes in groups]
        )

    # It is defined in a function.
    assert failed(results(discounted)) == {"pickles"}
    assert seen(discounted, "runs").startswith("one per token")
    # Of integers, PyTorch makes float32. No comparison shows it.
    assert seen(discounted, "precision").startswith("rounded to float32 (")


def test_a_mean_over_the_batch_is_found_by_what_it_does_unless_it_says_so():
    def against_the_batch(inputs: AdvantageInputs) -> AdvantageOutputs:
        return AdvantageOutputs(inputs.rewards - inputs.rewards.mean())

    assert failed(results(against_the_batch)) == {"groups_apart", "pickles"}
    assert failed(results(advantage(mixes_groups=True)(against_the_batch))) == {"pickles"}


def test_refusing_a_nan_and_too_small_a_group_is_well_done():
    def strict(inputs: AdvantageInputs, k: int = 4) -> AdvantageOutputs:
        if inputs.rewards.isnan().any():
            raise ValueError("a reward is NaN")
        if inputs.rewards.shape[1] < k:
            raise OptionError(f"k is {k}")
        return AdvantageOutputs(inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True))

    assert "a reward is NaN" in seen(strict, "nan_reward")
    assert "k is 4" in seen(strict, "fewest_rollouts")


@advantage(min_rollouts_per_example=10)
def of_ten(inputs: AdvantageInputs) -> AdvantageOutputs:
    assert inputs.rewards.shape[1] >= 10
    return AdvantageOutputs(inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True))


def costs(inputs: AdvantageInputs) -> AdvantageOutputs:
    return AdvantageOutputs(inputs.rewards.mean(dim=1, keepdim=True) - inputs.rewards)


def test_rewards_may_be_costs_if_it_says_so():
    assert failed(results(costs)) == {"reward_order"}
    assert seen(advantage(opposes_rewards=True)(costs), "reward_order") == "it declares opposes_rewards"


@advantage(min_rollouts_per_example=2)
def as_published(inputs: AdvantageInputs, epsilon: float = 1e-4) -> AdvantageOutputs:
    rewards = inputs.rewards
    return AdvantageOutputs((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + epsilon))


def ranks(inputs: AdvantageInputs) -> AdvantageOutputs:
    ordered = inputs.rewards.double().argsort(dim=1, stable=True).argsort(dim=1).double()
    equal = inputs.rewards.amax(1, keepdim=True) == inputs.rewards.amin(1, keepdim=True)
    of_nan = inputs.rewards * 0
    return AdvantageOutputs(torch.where(equal, 0.0, ordered - ordered.mean(1, keepdim=True)) + of_nan)


def clipped(inputs: AdvantageInputs) -> AdvantageOutputs:
    return AdvantageOutputs((inputs.rewards - inputs.rewards.mean(1, keepdim=True)).clamp(-0.1, 0.1))


@pytest.mark.parametrize("name", ["as_published", "clipped"])
def test_usual_formulas_are_not_blamed(name):
    assert not failed(results(globals()[name]))


def test_ranks_keep_the_order_of_rewards():
    assert "reward_order" not in failed(results(ranks))


def test_groups_are_as_large_as_it_asks_for():
    assert not failed(results(of_ten))
    assert seen(of_ten, "fewest_rollouts") == "10 rollouts per example are enough"
    assert "2 are too few with these options: [advantage] 'passk': k is 20" in seen("passk", "fewest_rollouts", k=20)


def test_what_is_declared_is_reported_and_not_failed():
    found = {result.check.name: result for result in results("rae")}
    for name in ("rollout_order", "group_order", "groups_apart"):
        assert found[name].outcome is Outcome.NOT_APPLICABLE
    assert found["equal_rewards"].seen.startswith("declared to have a signal: up to")
    assert found["resumes"].seen == "the same to the bit, with baselines saved"
    assert seen("constant", "nan_reward") == "it does not look at rewards"


def test_the_rollouts_are_those_that_were_asked_for():
    groups = rollouts([[1.0, 0.0], [0.5, 2.0]], lengths=[[3, 1], [2, 4]])
    inputs = AdvantageInputs(rollouts=groups)
    assert inputs.rewards.tolist() == [[1.0, 0.0], [0.5, 2.0]]
    assert inputs.completion_lengths.tolist() == [[3, 1], [2, 4]]
    assert groups == rollouts([[1.0, 0.0], [0.5, 2.0]], lengths=[[3, 1], [2, 4]])
    assert groups[0][0] != rollouts([[1.0, 0.0]], lengths=[[3, 1]], seed=1)[0][0]


def test_every_need_is_changed_to_see_that_it_is_read():
    @advantage(needs={"greedy_rewards", "values"})
    def greedy_alone(inputs: AdvantageInputs) -> AdvantageOutputs:
        return AdvantageOutputs(inputs.rewards - inputs.greedy_rewards.unsqueeze(1))

    @advantage(needs={"values", "ref_logprobs"}, signal_from_equal_rewards=True)
    def both(inputs: AdvantageInputs) -> AdvantageOutputs:
        pairs = zip(inputs.values, inputs.ref_logprobs, inputs.rewards.tolist(), strict=True)
        return AdvantageOutputs([[r - v[:-1] + p for v, p, r in zip(*group, strict=True)] for group in pairs])

    assert "a change of values gives the same values" in seen(greedy_alone, "needs")
    assert seen(both, "needs") == "reads ref_logprobs, values"
