"""The losses of pairs by hand, and what makes a pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import BatchLossInputs, LossOutputs
from plugrad_objectives.losses.bradley_terry import at_last_token
from plugrad_objectives.losses.orpo import log_odds
from plugrad_objectives.losses.pairs import Pairs

Rows = Callable[..., BatchLossInputs]
CHOSEN, REJECTED = [-1.0, -0.5], [-2.0]
REFERENCE = [[-1.5, -1.0], [-1.0]]
# log(pi / pi_ref): 1 of the chosen one, -1 of the rejected one.
ONE_PAIR: dict[str, Any] = {"group_ids": torch.tensor([0, 0]), "member": torch.tensor([0, 1])}
PREFERENCES = ("dpo", "simpo", "orpo")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def objective(outputs: LossOutputs) -> Tensor:
    """Return what the reduction of these losses makes of their rows: the mean."""
    return outputs.loss.mean()


def gradient(outputs: LossOutputs, inputs: BatchLossInputs) -> list[list[float]]:
    (found,) = torch.autograd.grad(objective(outputs), inputs.trainer_logprobs)
    return [row[mask].tolist() for row, mask in zip(found, inputs.loss_mask, strict=True)]


def values(outputs: LossOutputs) -> dict[str, float]:
    return {name: m if isinstance(m, float) else m.value() for name, m in outputs.metrics.items()}  # type: ignore[union-attr]


def test_dpo_by_hand(rows: Rows) -> None:
    inputs = rows([CHOSEN, REJECTED], REFERENCE, **ONE_PAIR)
    outputs = plugrad.load("loss", "dpo", beta=0.5)(inputs)
    # h = 2, beta h = 1; the slope by h is -beta sigmoid(-1).
    assert objective(outputs).item() == pytest.approx(-math.log(sigmoid(1)))
    pull = 0.5 * sigmoid(-1)
    assert gradient(outputs, inputs) == [pytest.approx([-pull, -pull]), pytest.approx([pull])]
    assert values(outputs) == pytest.approx({"accuracy": 1, "margin": 1, "chosen_reward": 0.5, "rejected_reward": -0.5})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "hinge", "beta": 0.1}, 0.8),
        ({"kind": "hinge", "beta": 1.0}, 0.0),
        ({"kind": "ipo", "beta": 0.5}, 1.0),
        ({"kind": "ipo", "beta": 0.1}, 9.0),
        ({"beta": 0.5, "label_smoothing": 0.25}, -0.75 * math.log(sigmoid(1)) - 0.25 * math.log(sigmoid(-1))),
        # Means over tokens: 1/2 and -1.
        ({"beta": 1.0, "mean_over_tokens": True}, -math.log(sigmoid(1.5))),
        ({"kind": "ipo", "beta": 0.5, "mean_over_tokens": True}, 0.25),
    ],
)
def test_the_kinds_of_dpo_by_hand(rows: Rows, options: dict[str, Any], expected: float) -> None:
    outputs = plugrad.load("loss", "dpo", **options)(rows([CHOSEN, REJECTED], REFERENCE, **ONE_PAIR))
    assert objective(outputs).item() == pytest.approx(expected)


def test_simpo_by_hand(rows: Rows) -> None:
    inputs = rows([CHOSEN, REJECTED], **ONE_PAIR)
    outputs = plugrad.load("loss", "simpo")(inputs)
    # 2 (-0.75 + 2) - 0.5 = 2; a token of the chosen one has half of the slope.
    assert objective(outputs).item() == pytest.approx(-math.log(sigmoid(2)))
    assert gradient(outputs, inputs) == [pytest.approx([-sigmoid(-2)] * 2), pytest.approx([2 * sigmoid(-2)])]
    assert values(outputs) == pytest.approx({"accuracy": 1, "margin": 2.5, "chosen_reward": -1.5, "rejected_reward": -4})


def test_orpo_by_hand(rows: Rows) -> None:
    half, fifth = math.log(0.5), math.log(0.2)
    inputs = rows([[half, half], [fifth]], **ONE_PAIR)
    outputs = plugrad.load("loss", "orpo", weight=0.5)(inputs)
    # The odds are 1 and 1/4: sigmoid(log 4) = 4/5.
    assert objective(outputs).item() == pytest.approx(math.log(2) - 0.5 * math.log(0.8))
    # d o / d m = 1 / (1 - p): 2 and 5/4. The slope of the second term by the log of the odds ratio is -1/2 * 1/5.
    assert gradient(outputs, inputs) == [pytest.approx([(-1 - 0.2) / 2] * 2), pytest.approx([0.125])]
    found = {"nll": math.log(2), "accuracy": 1, "margin": math.log(4), "chosen_reward": 0, "rejected_reward": -math.log(4)}
    assert values(outputs) == pytest.approx(found)


def test_odds_of_what_is_certain_are_finite() -> None:
    means = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    odds = log_odds(means)
    odds.sum().backward()
    assert odds.isfinite().all()
    assert means.grad is not None
    assert means.grad.isfinite().all()


def test_bradley_terry_by_hand(rows: Rows) -> None:
    scores = torch.tensor([[9.0, 7.0, 2.0, 9.0], [9.0, 1.0, 9.0, 9.0]], dtype=torch.float64, requires_grad=True)
    inputs = rows([[-1.0, -1.0], [-1.0]], **ONE_PAIR)
    inputs = BatchLossInputs(**{**vars(inputs), "values": scores[:, :3]})
    assert at_last_token(scores[:, :3], inputs).tolist() == [2.0, 1.0]
    outputs = plugrad.load("loss", "bradley_terry", center=0.1)(inputs)
    assert objective(outputs).item() == pytest.approx(-math.log(sigmoid(1)) + 0.1 * 9)
    (found,) = torch.autograd.grad(objective(outputs), scores)
    expected = torch.zeros(2, 4, dtype=torch.float64)
    expected[0, 2], expected[1, 1] = 0.6 - sigmoid(-1), 0.6 + sigmoid(-1)
    torch.testing.assert_close(found, expected)
    assert values(outputs) == {"accuracy": 1, "margin": 1, "chosen_reward": 2, "rejected_reward": 1}


def test_kto_by_hand(rows: Rows) -> None:
    # Desirable with l = 2, undesirable with l = -1, and a completion of another prompt with l = 1.
    labels: list[dict[str, Any]] = [{"labels": [True]}, {"labels": [False]}, {"labels": [None]}]
    inputs = rows([[-1.0], [-2.0], [-1.0]], [[-3.0], [-1.0], [-2.0]], metadata=labels, member=torch.tensor([0, 0, 0]))
    outputs = plugrad.load("loss", "kto", beta=0.5, undesirable_weight=2.0)(inputs)
    good, bad = sigmoid(-0.5), sigmoid(-1.0)
    assert objective(outputs).item() == pytest.approx((good + 2 * bad) / 2)
    slopes = [-0.25 * good * (1 - good), 0.5 * bad * (1 - bad)]
    assert gradient(outputs, inputs) == [pytest.approx([slopes[0]]), pytest.approx([slopes[1]]), [0.0]]
    assert values(outputs) == {"z": 1.0, "desirable_reward": 1.0, "undesirable_reward": -0.5}


def test_kto_in_float64_is_exact(rows: Rows) -> None:
    labels: list[dict[str, Any]] = [{"labels": [True]}, {"labels": [False]}, {"labels": [False]}]
    inputs = rows([[-1.0], [-2.0], [-1.0]], [[-3.0], [-1.0], [-2.0]], metadata=labels, member=torch.tensor([0, 0, 0]))
    outputs = plugrad.load("loss", "kto", beta=0.5, desirable_weight=1.1, undesirable_weight=0.7)(inputs)
    expected = (1.1 * sigmoid(-1.0) + 0.7 * (sigmoid(-0.5) + sigmoid(0.5))) / 3
    assert objective(outputs).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("example", "told"),
    [
        ({"labels": ["good", "bad"]}, "has the label 'good'"),
        ({"labels": [True, "false"]}, "has the label 'false'"),
        ({"labels": [True, 2]}, "has the label 2"),
        ({"labels": [True]}, "has 1, and `references` 2"),
        ({"labels": [True, False, None]}, "has 3, and `references` 2"),
        ({"labels": True}, "is True"),
    ],
)
def test_labels_that_are_none_are_refused(example: dict[str, Any], told: str) -> None:
    check = plugrad.load("loss", "kto").bound.facts.check_example
    with pytest.raises(plugrad.DataError, match=f"its column 'labels' {told}.*true, false and null, one for each of"):
        check({"references": ["a", "b"], **example}, {"labels": "labels"})


@pytest.mark.parametrize("labels", [[True, False], [1, 0], [None, 1.0]])
def test_labels_are_booleans_or_as_good(labels: list[Any]) -> None:
    plugrad.load("loss", "kto").bound.facts.check_example({"references": ["a", "b"], "labels": labels}, {"labels": "labels"})


@pytest.mark.parametrize("name", [*PREFERENCES, "bradley_terry"])
def test_pairs_are_of_references_or_of_rewards(name: str) -> None:
    facts = plugrad.load("loss", name).bound.facts
    assert facts.min_rollouts_per_example == 2
    assert [facts.replayed({"by": by}) for by in ("member", "reward")] == [True, False]
    facts.check_example({"reference": "a"}, {"by": "reward"})
    with pytest.raises(plugrad.DataError, match="no column 'references' with the better completion"):
        facts.check_example({"reference": "a"}, {"by": "member"})


def test_kto_takes_the_first_of_the_references_for_desirable_and_no_divergence_below_0(rows: Rows) -> None:
    metadata: list[dict[str, Any]] = [{}, {}]
    inputs = rows([[-1.0], [-2.0]], [[-3.0], [-1.0]], metadata=metadata, **ONE_PAIR)
    assert values(plugrad.load("loss", "kto")(inputs))["z"] == 0
    labels: list[dict[str, Any]] = [{"labels": [True, None]}] * 2
    inputs = rows([[-1.0], [-2.0]], [[-3.0], [-1.0]], metadata=labels, **ONE_PAIR)
    assert values(plugrad.load("loss", "kto")(inputs))["z"] == 0


@pytest.mark.parametrize("name", PREFERENCES)
def test_the_mean_is_over_pairs_whatever_the_number_of_rollouts(rows: Rows, name: str, pairs: dict[str, Tensor]) -> None:
    """Three rollouts of one prompt are two pairs, and one of another prompt is none."""
    given = [[-1.0, -0.5], [-2.0], [-0.3], [-0.7]]
    reference = [[-1.0, -1.0], [-1.0], [-1.0], [-1.0]]
    three = {"group_ids": torch.tensor([0, 0, 0, 1]), "member": torch.tensor([0, 1, 2, 0])}
    loss = plugrad.load("loss", name)
    alone = [objective(loss(rows([given[0], given[j]], [reference[0], reference[j]], **ONE_PAIR))).item() for j in (1, 2)]
    assert objective(loss(rows(given, reference, **three))).item() == pytest.approx(sum(alone) / 2)
    apart = [objective(loss(rows(given[i : i + 2], reference[i : i + 2], **ONE_PAIR))).item() for i in (0, 2)]
    assert objective(loss(rows(given, reference, **pairs))).item() == pytest.approx(sum(apart) / 2)


@pytest.mark.parametrize("name", PREFERENCES)
def test_rewards_may_decide_and_equal_ones_are_no_pair(rows: Rows, name: str) -> None:
    given, reference = [[-1.0], [-2.0]], [[-1.5], [-1.5]]
    by_member, by_reward = plugrad.load("loss", name), plugrad.load("loss", name, by="reward")
    expected = objective(by_member(rows(given, reference, **ONE_PAIR))).item()
    turned = {"group_ids": torch.tensor([0, 0]), "member": torch.tensor([1, 0])}
    rewards = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert objective(by_reward(rows(given, reference, reward=rewards, **turned))).item() == pytest.approx(expected)
    tied = rows(given, reference, reward=torch.ones(2, dtype=torch.float64), **turned)
    assert objective(by_reward(tied)).item() == 0
    assert gradient(by_reward(tied), tied) == [[0.0], [0.0]]


@pytest.mark.parametrize("name", PREFERENCES)
def test_a_batch_without_a_pair_is_0(rows: Rows, name: str) -> None:
    inputs = rows([[-1.0], [-2.0]], [[-1.0], [-1.0]], group_ids=torch.tensor([0, 1]), member=torch.tensor([0, 1]))
    outputs = plugrad.load("loss", name)(inputs)
    assert objective(outputs).item() == 0
    assert gradient(outputs, inputs) == [[0.0], [0.0]]


def test_a_completion_in_which_nothing_counts_is_in_no_pair(rows: Rows) -> None:
    inputs = rows([[-1.0], [-2.0]], [[-1.0], [-1.0]], **ONE_PAIR)
    mask = inputs.loss_mask.clone()
    mask[1] = False
    assert len(Pairs.of(BatchLossInputs(**{**vars(inputs), "loss_mask": mask}), "member").better) == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {"beta": 0.0}),
        ("dpo", {"kind": "log"}),
        ("dpo", {"label_smoothing": 0.5}),
        ("simpo", {"gamma": -1.0}),
        ("orpo", {"weight": -1.0}),
        ("kto", {"beta": 0.0}),
        ("bradley_terry", {"by": "length"}),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(plugrad.OptionError, match=next(iter(options))):
        plugrad.load("loss", name, **options)
