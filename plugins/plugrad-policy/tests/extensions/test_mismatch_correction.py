"""`mismatch_correction`: each level and mode by hand, what it reports, and TRL's values, inside core's hooks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import BatchLossInputs

PEERS = json.loads((Path(__file__).parents[1] / "golden" / "peers.json").read_text())
REFERENCE = "plugrad_policy.extensions.mismatch_correction:MismatchCorrection"


def rows(*ratios: list[float], advantage: float = 1.0, old: bool = True) -> BatchLossInputs:
    """Return sequences of one prompt token and one token for each of these ratios of trainer over engine."""
    width = 1 + max(map(len, ratios))
    mask = torch.tensor([[False] + [True] * len(row) + [False] * (width - 1 - len(row)) for row in ratios])
    trainer = torch.where(mask, -2.0, 0.0).double()
    log_ratio = torch.zeros(mask.shape, dtype=torch.float64)
    log_ratio[mask] = torch.tensor([ratio for row in ratios for ratio in row], dtype=torch.float64).log()
    # What is not counted is finite and means nothing.
    inference = torch.where(mask, trainer - log_ratio, -9.0)
    advantages = torch.full(mask.shape, advantage, dtype=torch.float64)
    return BatchLossInputs(
        trainer_logprobs=trainer.requires_grad_(),
        inference_logprobs=inference,
        advantages=advantages,
        loss_mask=mask,
        old_logprobs=trainer.detach() if old else None,
    )


def weights(running: Any, inputs: BatchLossInputs, loss: str = "ppo_clip") -> list[list[float]]:
    """Return each counted token's weight: minus the gradient of an on-policy loss whose advantages are 1."""
    running.sums(loss, inputs).sum().backward()
    assert inputs.trainer_logprobs.grad is not None
    found = [(-grad[mask]).tolist() for grad, mask in zip(inputs.trainer_logprobs.grad, inputs.loss_mask, strict=True)]
    assert not inputs.trainer_logprobs.grad[~inputs.loss_mask].any()
    return found


def close(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_by_default_each_token_is_truncated_at_2(inside: Callable) -> None:
    close(weights(inside("mismatch_correction"), rows([0.01, 1.5, 8.0], [2.0])), [[0.01, 1.5, 2.0], [2.0]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "truncate", "low": 0.5, "high": 5.0}, [[0.5, 1.0, 5.0], [0.8, 2.0]]),
        ({"mode": "mask", "low": 0.5, "high": 5.0}, [[0.0, 1.0, 0.0], [0.8, 2.0]]),
        ({"mode": "reject", "low": 0.5, "high": 5.0}, [[0.0, 1.0, 0.0], [1.0, 1.0]]),
        # The products are 0.25 * 1 * 8 = 2 and 0.8 * 2 = 1.6.
        ({"level": "sequence", "high": 1.8}, [[1.8] * 3, [1.6] * 2]),
        ({"level": "sequence", "mode": "mask", "high": 1.8}, [[0.0] * 3, [1.6] * 2]),
        ({"level": "sequence", "mode": "reject", "high": 1.8}, [[0.0] * 3, [1.0] * 2]),
        ({"level": "geometric", "high": 1.26}, [[2 ** (1 / 3)] * 3, [1.26] * 2]),
        ({"level": "geometric", "mode": "mask", "high": 1.26}, [[2 ** (1 / 3)] * 3, [0.0] * 2]),
        ({"veto_below": 0.3, "high": 10.0}, [[0.0] * 3, [0.8, 2.0]]),
    ],
)
def test_levels_and_modes_by_hand(options: dict[str, Any], expected: list[list[float]], inside: Callable) -> None:
    close(weights(inside("mismatch_correction", **options), rows([0.25, 1.0, 8.0], [0.8, 2.0])), expected)


def test_the_weight_has_no_gradient(inside: Callable) -> None:
    # Without old_logprobs the weight is of the policy itself: its gradient would be another one.
    close(weights(inside("mismatch_correction"), rows([1.5], old=False), loss="importance_sampling"), [[1.5 * 1.5]])
    prepared = inside("mismatch_correction").hooks.prepare_loss(None, rows([1.5], old=False))
    assert not prepared.advantages.requires_grad


def test_old_logprobs_are_preferred(inside: Callable) -> None:
    inputs = rows([1.5])
    moved = BatchLossInputs(
        trainer_logprobs=(inputs.trainer_logprobs.detach() + 0.1).requires_grad_(),
        inference_logprobs=inputs.inference_logprobs,
        advantages=inputs.advantages,
        loss_mask=inputs.loss_mask,
        old_logprobs=inputs.old_logprobs,
    )
    close(weights(inside("mismatch_correction"), moved), [[1.5 * math.exp(0.1)]])


def test_where_trainer_and_engine_agree_nothing_changes(inside: Callable) -> None:
    for level in ("token", "sequence", "geometric"):
        close(weights(inside("mismatch_correction", level=level), rows([1.0, 1.0], [1.0])), [[1.0, 1.0], [1.0]])


def test_another_loss_sees_the_dropped_tokens_too(inside: Callable) -> None:
    inputs = rows([9.0, 1.0])
    found = inside("mismatch_correction", mode="mask").sums("cross_entropy", inputs)
    close(found.tolist(), [2.0])


def test_ratios_that_overflow_stay_finite(inside: Callable) -> None:
    inputs = rows([1e30] * 50, [1e-30] * 50)
    found = weights(inside("mismatch_correction", level="sequence", high=math.inf), inputs)
    close(found, [[math.exp(20)] * 50, [math.exp(-20)] * 50])


def test_a_sequence_whose_tokens_are_all_dropped_contributes_0(inside: Callable) -> None:
    running = inside("mismatch_correction", mode="mask")
    assert running.sums("ppo_clip", rows([9.0, 9.0], [1.0])).tolist() == [0.0, -1.0]
    assert running.sums("ppo_clip", rows([9.0, 9.0])).tolist() == [0.0]


@pytest.mark.parametrize("options", [{}, {"level": "sequence", "mode": "mask"}, {"level": "geometric", "veto_below": 0.1}])
def test_neither_the_cut_nor_padding_changes_it(options: dict[str, Any], inside: Callable) -> None:
    ratios = [[0.5, 1.5, 3.0, 0.05], [1.1], [0.9, 2.5]]
    together = weights(inside("mismatch_correction", **options), rows(*ratios))
    running = inside("mismatch_correction", **options)
    close([weights(running, rows(row))[0] for row in ratios], together)
    measured, whole = running.measured(), inside("mismatch_correction", **options)
    whole.sums("ppo_clip", rows(*ratios))
    close(measured, whole.measured())


def test_what_was_corrected_is_reported_and_then_forgotten(inside: Callable) -> None:
    running = inside("mismatch_correction", mode="mask", high=4.0, veto_below=0.1)
    running.sums("ppo_clip", rows([1.0, 6.0], [0.05, 1.0, 1.95]))
    assert running.measured() == {
        "weight": pytest.approx(2.0),
        "outside": pytest.approx(1 / 5),
        "dropped": pytest.approx(4 / 5),
    }
    assert running.measured() == {}


def test_truncated_tokens_are_not_dropped(inside: Callable) -> None:
    running = inside("mismatch_correction")
    running.sums("ppo_clip", rows([1.0, 6.0]))
    assert running.measured() == {"weight": 3.5, "outside": 0.5, "dropped": 0.0}


def test_without_a_token_to_drop_the_mask_is_the_same_tensor(inside: Callable) -> None:
    # The trainer then need not ask the device which rows are left.
    inputs = rows([3.0])
    assert inside("mismatch_correction").hooks.prepare_loss(None, inputs).loss_mask is inputs.loss_mask


def test_bounds_that_cross_are_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match="low must be below high"):
        plugrad.load("extension", REFERENCE, low=2.0, high=2.0)


def test_an_unknown_level_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match="'token', 'sequence' or 'geometric'"):
        plugrad.load("extension", REFERENCE, level="tokens")


def padded(name: str) -> Tensor:
    values = [torch.tensor(row, dtype=torch.float64) for row in PEERS["batch"][name]]
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ("token_truncate", {"level": "token", "mode": "truncate"}),
        ("token_mask", {"level": "token", "mode": "mask"}),
        ("sequence_truncate", {"level": "sequence", "mode": "truncate"}),
        ("sequence_mask", {"level": "sequence", "mode": "mask"}),
    ],
)
def test_with_the_clipped_loss_it_is_trls(row: str, options: dict[str, str], inside: Callable) -> None:
    # TRL's row takes the reference for the policy before the update; all seven tokens are in its denominator.
    expected = PEERS[f"trl/dapo/token/is_{row}_cmax_1.2(old:=ref,sampling:=inference)"]
    mask = padded("loss_mask").bool()
    inputs = BatchLossInputs(
        trainer_logprobs=padded("trainer_logprobs").requires_grad_(),
        inference_logprobs=padded("inference_logprobs"),
        advantages=torch.tensor(PEERS["batch"]["advantages"], dtype=torch.float64).unsqueeze(1).expand(mask.shape),
        loss_mask=mask,
        old_logprobs=padded("ref_logprobs"),
    )
    loss = inside("mismatch_correction", high=1.2, **options).sums("ppo_clip", inputs).sum() / mask.sum()
    loss.backward()
    close(loss.item(), expected["loss"])
    assert inputs.trainer_logprobs.grad is not None
    close(inputs.trainer_logprobs.grad.tolist(), expected["grad"])
