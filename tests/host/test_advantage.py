"""Calling an advantage: one finite number per rollout, or per completion token."""

import re

import pytest
import torch

from plugrad import AdvantageInputs, AdvantageOutputs, ContractError
from plugrad.errors import FieldMissing
from plugrad.host.advantage import BoundAdvantage, compute_advantages, per_token, with_prepared_rewards

INPUTS = AdvantageInputs(
    rewards=torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]]), completion_lengths=torch.tensor([[2, 1], [3, 1], [1, 2]])
)
RAGGED = [[torch.tensor([1.0, 2.0]), torch.tensor([3.0])], [torch.zeros(3), torch.zeros(1)], [torch.zeros(1), torch.ones(2)]]


@pytest.fixture
def compute(component):
    """Compute the advantages of the inputs above with a function that returns this."""

    def compute_it(returned):
        def wrong(inputs):
            return returned(inputs) if callable(returned) else returned

        bound = component(wrong, kind="advantage")
        return compute_advantages(BoundAdvantage(bound, bound.create()), INPUTS)

    return compute_it


def test_both_layouts_pass(compute):
    assert compute(lambda inputs: AdvantageOutputs(inputs.rewards * 2)).advantages.tolist() == [[2, 0], [1, 1], [0, 4]]
    assert compute(AdvantageOutputs(RAGGED)).advantages is RAGGED


@pytest.mark.parametrize("returned", [None, torch.zeros(3, 2), [0.0]])
def test_what_is_no_output_is_refused_with_its_owner(compute, returned):
    with pytest.raises(ContractError) as caught:
        compute(returned)
    assert str(caught.value) == (
        f"the advantage 'wrong' (mine) returned {type(returned).__name__}; "
        "an advantage returns plugrad.AdvantageOutputs(advantages=...)."
    )


def test_outputs_that_are_made_wrongly_name_their_owner_and_the_line(compute):
    with pytest.raises(ContractError) as caught:
        compute(lambda inputs: AdvantageOutputs(inputs.rewards.sum()))
    assert re.match(
        r"the advantage 'wrong' \(mine\), at .*test_advantage\.py:\d+: plugrad\.AdvantageOutputs was given advantages = a "
        r"tensor of float32 of shape \[\]\. It takes a float tensor of shape",
        str(caught.value),
    )


def test_a_field_that_it_did_not_ask_for_is_named_if_it_is_returned(compute):
    with pytest.raises(FieldMissing, match=r"Write @advantage\(needs=\{'greedy_rewards'\}\)"):
        compute(lambda inputs: AdvantageOutputs(inputs.greedy_rewards))


@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (6, 1)])
def test_another_shape_is_refused(compute, shape):
    with pytest.raises(ContractError) as caught:
        compute(AdvantageOutputs(torch.zeros(shape)))
    assert f"returned advantages of shape {shape}; the inputs have (3, 2)" in str(caught.value)


@pytest.mark.parametrize(
    ("ragged", "found"),
    [
        ([[torch.zeros(2), torch.zeros(2)], *RAGGED[1:]], "[[2, 2], [3, 1], [1, 2]]"),
        (RAGGED[:2], "[[2, 1], [3, 1]]"),
        ([RAGGED[0], RAGGED[1], RAGGED[2][:1]], "[[2, 1], [3, 1], [1]]"),
    ],
    ids=["tokens", "groups", "rollouts"],
)
def test_other_lengths_are_refused(compute, ragged, found):
    with pytest.raises(ContractError) as caught:
        compute(AdvantageOutputs(ragged))
    assert f"{found}; the inputs have [[2, 1], [3, 1], [1, 2]]. Return one" in str(caught.value)


def test_a_matrix_among_ragged_advantages_is_refused_every_time(compute):
    # beartype looks at one element of a list, drawn at random, so the wrong one may come through.
    ragged = [[torch.zeros(2, 2), torch.zeros(1)], *RAGGED[1:]]
    for _ in range(20):
        with pytest.raises(ContractError, match="advantages"):
            compute(lambda inputs: AdvantageOutputs(ragged))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_with_its_example(compute, bad):
    by_rollout = torch.zeros(3, 2)
    by_rollout[1, 0] = bad
    by_token = [RAGGED[0], [torch.tensor([0.0, 0.0, bad]), torch.zeros(1)], RAGGED[2]]
    for wrong in (by_rollout, by_token):
        with pytest.raises(
            ContractError, match=r"'wrong' \(mine\) returned an advantage that is not finite for example 1 of"
        ):
            compute(AdvantageOutputs(wrong))


def test_what_it_raises_is_its_own(compute):
    with pytest.raises(ContractError, match=r"the advantage 'wrong' \(mine\) raised AttributeError"):
        compute(lambda inputs: inputs.reward)


def test_a_fresh_advantage_has_no_state(component):
    class Running:
        def __init__(self):
            self.calls = 0

        def __call__(self, inputs):
            self.calls += 1
            return AdvantageOutputs(torch.full_like(inputs.rewards, self.calls))

    bound = component(Running, kind="advantage")
    used = BoundAdvantage(bound, bound.create())
    compute_advantages(used, INPUTS)
    assert compute_advantages(used, INPUTS).advantages[0, 0] == 2
    assert compute_advantages(used.fresh(), INPUTS).advantages[0, 0] == 1


def test_prepared_rewards_reach_copies_of_the_rollouts(rollout):
    raw = [[rollout(1.0, reward_components={"a": 1.0}), rollout(0.0)]]
    prepared = AdvantageInputs(rewards=torch.tensor([[0.5, -0.25]]), rollouts=raw)
    both = with_prepared_rewards(prepared)
    assert [[r["reward"] for r in group] for group in both.rollouts] == both.rewards.tolist() == [[0.5, -0.25]]
    assert [r["reward"] for r in raw[0]] == [1.0, 0.0]
    assert both.rollouts[0][0] == {**raw[0][0], "reward": 0.5}
    assert both.completion_lengths.tolist() == [[2, 2]]


@pytest.mark.parametrize("key", [("a", 1), 3, None, "not a name", "self"])
def test_a_rollout_may_have_keys_that_are_no_names(rollout, key):
    odd = rollout(1.0)
    odd[key] = "kept"
    [[found]] = with_prepared_rewards(AdvantageInputs(rewards=torch.tensor([[0.5]]), rollouts=[[odd]])).rollouts
    assert found == {**odd, "reward": 0.5}


def test_one_advantage_is_repeated_over_the_tokens():
    outputs = AdvantageOutputs(torch.tensor([[1.0, -0.5], [0.0, 2.0]]))
    assert per_token(outputs, [[2, 1], [0, 3]]) == [[[1.0, 1.0], [-0.5]], [[], [2.0, 2.0, 2.0]]]


def test_advantages_per_token_stay():
    found = per_token(AdvantageOutputs(RAGGED), INPUTS.completion_lengths.tolist())
    assert found == [[[1.0, 2.0], [3.0]], [[0.0] * 3, [0.0]], [[0.0], [1.0, 1.0]]]
