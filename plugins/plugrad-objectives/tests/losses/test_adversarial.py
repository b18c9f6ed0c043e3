"""adversarial by hand, with a policy of which the log-probs are straight in the embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import AnotherPass, BatchLossInputs


@pytest.fixture
def straight(rows: Callable[..., BatchLossInputs]) -> Callable[[Tensor], BatchLossInputs]:
    """Build a row of a prompt token and two others, with log pi_t = -1 + <w, e_t> + <w, e_0>, at embeddings e that are 0."""

    def build(weight: Tensor) -> BatchLossInputs:
        embeddings = torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)
        inputs = rows([[-1.0, -1.0]])

        def logprobs(at: Tensor) -> Tensor:
            return -1 + (at + at[:, :1]) @ weight

        found = logprobs(embeddings)

        def sensitivity(total: Tensor) -> Tensor:
            return torch.autograd.grad(total, embeddings, retain_graph=True)[0]

        def again(shift: Tensor) -> AnotherPass:
            return AnotherPass(logprobs(embeddings + shift.detach()), None)

        return replace(inputs, trainer_logprobs=found, sensitivity=sensitivity, again=again)

    return build


@pytest.mark.parametrize(
    ("options", "down"),
    [
        # |w| = 5: the token's own embedding takes eps |w| off, and the prompt's the same again.
        ({"eps": 0.1}, 2 * 0.1 * 5.0),
        ({"eps": 0.1, "kind": "sign"}, 2 * 0.1 * 7.0),
    ],
)
def test_by_hand(straight: Callable[[Tensor], BatchLossInputs], options: dict[str, Any], down: float) -> None:
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    inputs = straight(weight)
    outputs = plugrad.load("loss", "adversarial", alpha=0.5, **options)(inputs)
    counted = outputs.loss[inputs.loss_mask]
    torch.testing.assert_close(counted, torch.full((2,), 1 + 0.5 * (1 + down), dtype=torch.float64))
    # Through both passes and not through the step: alpha times the step, of two tokens and twice the prompt's.
    (gradient,) = torch.autograd.grad(counted.sum(), weight)
    step = torch.tensor([1.0, 1.0] if "kind" in options else [0.6, 0.8], dtype=torch.float64)
    torch.testing.assert_close(gradient, 0.5 * 4 * 0.1 * step)
    found = {name: measure.value() for name, measure in outputs.metrics.items()}
    assert found == pytest.approx({"nll": 1.0, "nll_under_attack": 1 + down})


def test_where_the_slope_is_0_nothing_moves(straight: Callable[[Tensor], BatchLossInputs]) -> None:
    inputs = straight(torch.zeros(2, dtype=torch.float64, requires_grad=True))
    outputs = plugrad.load("loss", "adversarial")(inputs)
    torch.testing.assert_close(outputs.loss[inputs.loss_mask], torch.full((2,), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("options", [{"eps": 0.0}, {"alpha": -1.0}, {"kind": "l1"}])
def test_an_option_that_makes_no_sense_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(plugrad.OptionError, match=next(iter(options))):
        plugrad.load("loss", "adversarial", **options)
