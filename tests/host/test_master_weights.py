"""Float32 masters: the optimizer makes the updates of float32 weights, and the weights are the masters rounded."""

import pytest
import torch
from torch.optim import SGD, Adafactor, Adagrad, AdamW

from plugrad.host.master_weights import MASTER, step_with_masters
from plugrad.host.optimizer_state import parts_of, set_states, state_of
from plugrad.host.several_optimizers import SeveralOptimizers

LR = 1e-6
START = torch.linspace(-1, 1, 48).view(6, 8).to(torch.bfloat16)
MAKERS = {
    "AdamW": lambda p: AdamW(p, lr=LR, weight_decay=0.1),
    "fused AdamW": lambda p: AdamW(p, lr=LR, weight_decay=0.1, fused=True),
    "SGD": lambda p: SGD(p, lr=LR, momentum=0.9),
    "Adagrad": lambda p: Adagrad(p, lr=LR),
    "Adafactor": lambda p: Adafactor(p, lr=LR),
}


def gradient(number):
    return (torch.arange(48).view(6, 8) * (number + 1.3)).sin().to(torch.bfloat16)


def updated(optimizer, parameter, numbers):
    for number in numbers:
        parameter.grad = gradient(number).to(parameter.dtype)
        optimizer.step()


def of_16_bits(make):
    parameter = START.clone().requires_grad_()
    return parameter, SeveralOptimizers([make([parameter])], step_with_masters)


@pytest.mark.parametrize("name", MAKERS)
def test_updates_are_those_of_a_float32_weight_to_the_bit(name):
    parameter, optimizer = of_16_bits(MAKERS[name])
    updated(optimizer, parameter, range(5))
    exact = START.float().requires_grad_()
    updated(MAKERS[name]([exact]), exact, range(5))
    assert parameter.dtype == torch.bfloat16
    assert torch.equal(state_of(optimizer, parameter)[MASTER], exact)
    assert torch.equal(parameter, exact.to(torch.bfloat16))
    assert not torch.equal(exact, START.float())


@pytest.mark.parametrize("name", MAKERS)
def test_it_goes_on_from_its_state_to_the_bit(name):
    parameter, optimizer = of_16_bits(MAKERS[name])
    updated(optimizer, parameter, range(3))
    resumed, other = of_16_bits(MAKERS[name])
    kept = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state_of(optimizer, parameter).items()}
    with torch.no_grad():
        resumed.copy_(parameter)
    set_states(other, {resumed: kept})
    updated(optimizer, parameter, range(3, 6))
    updated(other, resumed, range(3, 6))
    assert torch.equal(state_of(other, resumed)[MASTER], state_of(optimizer, parameter)[MASTER])


def test_what_has_more_bits_or_no_gradient_stays_as_it_is():
    exact, unused = START.float().requires_grad_(), START.clone().requires_grad_()
    optimizer = SeveralOptimizers([AdamW([exact, unused], lr=LR)], step_with_masters)
    updated(optimizer, exact, range(2))
    alone = START.float().requires_grad_()
    updated(AdamW([alone], lr=LR), alone, range(2))
    assert torch.equal(exact, alone)
    assert MASTER not in state_of(optimizer, exact)
    assert not state_of(optimizer, unused)
    assert parts_of(optimizer)[0].param_groups[0]["params"] == [exact, unused]


def test_a_failing_update_leaves_the_weights_in_their_groups():
    parameter, optimizer = of_16_bits(MAKERS["SGD"])
    part = parts_of(optimizer)[0]
    part.register_step_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        updated(optimizer, parameter, [0])
    assert part.param_groups[0]["params"] == [parameter]
    assert torch.equal(parameter, START)
