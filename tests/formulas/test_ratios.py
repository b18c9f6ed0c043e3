"""`finite_exp` and `k3`: exact where they count, finite where they do not, with the right gradient everywhere."""

import math

import pytest
import torch

from plugrad import at_least_float32, finite_exp, k3
from plugrad.formulas.ratios import greatest_exponent

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FAR = [1e4, 100.0, 89.0, 45.0, -89.0, -100.0, -1e4]
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def value_and_gradient(function, values):
    leaf = values.clone().requires_grad_()
    found = function(leaf)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_up_to_the_limit_finite_exp_is_exp_digit_by_digit(dtype):
    values = torch.linspace(-200, greatest_exponent(dtype), 20_001, dtype=dtype)[:-1]
    assert all(map(torch.equal, value_and_gradient(finite_exp, values), value_and_gradient(torch.exp, values)))


@every_dtype
@pytest.mark.parametrize("function", [finite_exp, k3])
def test_far_values_and_gradients_are_finite_and_keep_their_direction(function, dtype):
    value, gradient = value_and_gradient(function, torch.tensor(FAR, dtype=dtype))
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[:4] > 0).all()
    assert (value[:-1].diff()[:3] < 0).all(), "a larger ratio has a larger value, beyond the limit too"
    assert (gradient[4:] <= 0).all() if function is k3 else (gradient[4:] >= 0).all()


@every_dtype
def test_widened_values_are_equal_and_their_gradient_finite(dtype):
    values = torch.tensor([0.5, -3.0], dtype=dtype)
    found, gradient = value_and_gradient(lambda x: at_least_float32(x) * torch.tensor([1e9, -1e9]), values)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(at_least_float32(values), values.to(found.dtype))
    expected = torch.tensor([1e9, -1e9], dtype=torch.double).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
    assert torch.equal(gradient, expected.to(dtype))


@every_dtype
@pytest.mark.parametrize("function", [finite_exp, k3])
def test_infinity_is_finite_and_nan_stays(function, dtype):
    value, gradient = value_and_gradient(function, torch.tensor([math.inf, math.nan], dtype=dtype))
    assert value[0].isfinite()
    assert gradient[0].isfinite()
    assert value[1].isnan()


@pytest.mark.parametrize("exponent", range(-12, 2))
@pytest.mark.parametrize("sign", [1, -1])
@every_dtype
def test_k3_and_its_gradient_are_exact_near_zero(exponent, sign, dtype):
    given = torch.tensor([sign * 10.0**exponent], dtype=dtype)
    value, gradient = value_and_gradient(k3, given)
    x = given.double().item()
    # math.expm1(x) - x loses its digits below 1e-3: there the next two terms of the series are enough.
    expected = x * x / 2 * (1 + x / 3 * (1 + x / 4)) if abs(x) < 1e-3 else math.expm1(x) - x
    digits = 4 * torch.finfo(value.dtype).eps
    assert value.item() == pytest.approx(expected, rel=max(digits, 1e-9), abs=0)
    assert gradient.item() == pytest.approx(math.expm1(x), rel=max(4 * torch.finfo(dtype).eps, 1e-12), abs=0)


@every_dtype
def test_k3_is_never_negative(dtype):
    assert not k3(torch.linspace(-1, 1, 20_001, dtype=torch.float64).to(dtype)).lt(0).any()
    assert k3(torch.tensor([1e-4, -1e-4], dtype=dtype)).gt(0).all()


@pytest.mark.parametrize("function", [finite_exp, k3])
def test_the_gradient_is_the_derivative_within_and_beyond_the_limit(function):
    limit = greatest_exponent(torch.float64)
    points = torch.tensor([-3.0, -0.5, -0.1, 0.0, 0.1, 0.5, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(function, points.requires_grad_())
    scaled = torch.tensor([limit - 1, limit + 1, limit + 1e3], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: function(x) / math.exp(limit), scaled.requires_grad_())


@pytest.mark.parametrize("function", [finite_exp, k3])
def test_they_are_mapped_over_sequences(function):
    values = torch.randn(4, 3, dtype=torch.float64)
    mapped = value_and_gradient(torch.func.vmap(function), values)
    assert all(map(torch.equal, mapped, value_and_gradient(function, values)))
