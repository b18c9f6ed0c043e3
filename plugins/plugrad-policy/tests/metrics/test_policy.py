"""`kl` and `clip`: what is measured on the policy's log-probs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import MetricInputs, Rollout
from plugrad.host.load import load_component
from plugrad.registry.scan import scan
from plugrad_policy.metrics.clip import clip
from plugrad_policy.metrics.kl import kl

Build = Callable[..., Rollout]
Batch = Callable[..., MetricInputs]
Values = Callable[..., dict[str, float]]


def column(*rows: list[float]) -> Tensor:
    """Return numbers for the completions' tokens; the prompt's and the padding's are noise."""
    width = max(map(len, rows))
    return torch.tensor([[7.0, *row, *[50.0] * (width - len(row))] for row in rows], dtype=torch.float64)


@pytest.fixture
def ratios(rollout: Build, batch: Batch) -> Callable[..., MetricInputs]:
    """Build sequences whose tokens have these ratios of the policy over the engine, and over the policy before."""

    def build(*rows: list[float]) -> MetricInputs:
        logs = [[math.log(ratio) for ratio in row] for row in rows]
        return batch(
            [rollout(ids=range(len(row))) for row in rows],
            trainer_logprobs=column(*logs),
            inference_logprobs=torch.zeros_like(column(*logs)),
            old_logprobs=torch.zeros_like(column(*logs)),
        )

    return build


def test_kl_by_hand(ratios: Callable[..., MetricInputs], values: Values) -> None:
    found = values(kl, ratios([2.0, 0.5], [1.0]))
    k3 = (2 - 1 - math.log(2)) + (0.5 - 1 + math.log(2))
    assert found == {"inference_k1": pytest.approx(0.0), "inference_k3": pytest.approx(k3 / 3)}


def test_k1_is_negative_where_the_policy_finds_the_tokens_likelier(
    ratios: Callable[..., MetricInputs], values: Values
) -> None:
    found = values(kl, ratios([2.0]), against=("old",))
    assert found == {"old_k1": pytest.approx(-math.log(2)), "old_k3": pytest.approx(1 - math.log(2))}


def test_the_reference_is_compared_the_other_way_round(ratios: Callable[..., MetricInputs], values: Values) -> None:
    inputs = ratios([2.0])
    found = values(kl, replace(inputs, ref_logprobs=torch.zeros_like(inputs.trainer_logprobs)), against=("reference",))
    assert found == {"reference_k1": pytest.approx(math.log(2)), "reference_k3": pytest.approx(0.5 - 1 + math.log(2))}


def test_in_the_mean_over_what_is_sampled_both_are_the_kl(ratios: Callable[..., MetricInputs], values: Values) -> None:
    # mu = (3/4, 1/4), pi = (1/2, 1/2): of four tokens, three have the ratio 2/3 and one 2.
    found = values(kl, ratios([2 / 3, 2 / 3, 2 / 3, 2.0]))
    exact = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found == {"inference_k1": pytest.approx(exact), "inference_k3": pytest.approx(exact)}


def test_replayed_completions_have_no_engine(ratios: Callable[..., MetricInputs], values: Values) -> None:
    assert values(kl, replace(ratios([2.0]), inference_logprobs=None)) == {}


@pytest.mark.parametrize(
    ("against", "needs"),
    [(["inference"], set()), (["old"], {"old_logprobs"}), (["reference", "old"], {"old_logprobs", "ref_logprobs"})],
)
def test_kl_needs_what_it_compares_with(against: list[str], needs: set[str]) -> None:
    component = load_component("metric", "plugrad_policy.metrics.kl:kl", {"against": against}, scan(), [])
    assert component.needs == needs


def test_an_unknown_comparison_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match="'against'"):
        plugrad.load("metric", "plugrad_policy.metrics.kl:kl", against=["teacher"])


def test_clip_by_hand(ratios: Callable[..., MetricInputs], values: Values) -> None:
    found = values(clip, ratios([0.5, 0.9, 1.0, 1.1], [1.25, 0.7, 2.0, 3.0]))
    assert found == {"low": 2 / 8, "high": 3 / 8, "outside": 5 / 8}


def test_clip_has_two_ends(ratios: Callable[..., MetricInputs], values: Values) -> None:
    inputs = ratios([0.5, 0.9, 1.0, 1.1], [1.25, 0.7, 2.0, 3.0])
    assert values(clip, inputs, low=0.05, high=1.5) == {"low": 3 / 8, "high": 1 / 8, "outside": 4 / 8}
