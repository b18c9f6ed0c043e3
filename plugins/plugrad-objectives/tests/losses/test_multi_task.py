"""multi_task by hand, the uncertainty that it settles at, and tasks that it does not know."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import plugrad
from plugrad import BatchLossInputs, ModelSizes

Rows = Callable[..., BatchLossInputs]
SIZES = ModelSizes(hidden_size=4, vocab_size=10, dtype=torch.float64)


@pytest.fixture
def of_tasks(rows: Rows) -> Callable[..., BatchLossInputs]:
    """Build two rows of task `b` and one of task `a`."""

    def build(s: torch.Tensor, column: str = "task", tasks: tuple[Any, ...] = ("b", "a", "b")) -> BatchLossInputs:
        examples = [{column: task} for task in tasks]
        return rows([[-1.0, -3.0], [-2.0], [-2.0]], metadata=examples, parameters={"s": s})

    return build


def test_by_hand(of_tasks: Callable[..., BatchLossInputs]) -> None:
    # sigma_a = 1 and sigma_b = 2.
    s = torch.tensor([0.0, math.log(4)], dtype=torch.float64, requires_grad=True)
    inputs = of_tasks(s)
    outputs = plugrad.load("loss", "multi_task", tasks=["a", "b"])(inputs)
    counted = outputs.loss[inputs.loss_mask]
    log_2 = math.log(2)
    expected = torch.tensor([0.25 + log_2, 0.75 + log_2, 2.0, 0.5 + log_2], dtype=torch.float64)
    torch.testing.assert_close(counted, expected)
    of_logprobs, of_s = torch.autograd.grad(counted.sum(), [inputs.trainer_logprobs, s])
    wanted = torch.tensor([[0.0, -0.25, -0.25], [0.0, -1.0, 0.0], [0.0, -0.25, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(of_logprobs, wanted)
    # 1/2 for each token, less its -log pi / sigma^2.
    torch.testing.assert_close(of_s, torch.tensor([0.5 - 2.0, 1.5 - 1.5], dtype=torch.float64))
    found = {name: measure.value() if hasattr(measure, "value") else measure for name, measure in outputs.metrics.items()}
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"sigma/a": 1.0, "sigma/b": 2.0, "nll/a": 2.0, "nll/b": 2.0}
    )


def test_each_task_has_an_uncertainty_which_starts_at_1() -> None:
    made = plugrad.load("loss", "multi_task", tasks=["a", "b", "c"]).trained(SIZES)
    (s,) = made.parameters()
    assert (s.tolist(), s.dtype) == ([0.0] * 3, torch.float64)


def test_the_square_of_sigma_settles_at_twice_the_loss(of_tasks: Callable[..., BatchLossInputs]) -> None:
    # Both tasks have the mean 2, so both settle at log 4.
    s = torch.full((2,), math.log(4), dtype=torch.float64, requires_grad=True)
    inputs = of_tasks(s)
    outputs = plugrad.load("loss", "multi_task", tasks=["a", "b"])(inputs)
    (slope,) = torch.autograd.grad(outputs.loss[inputs.loss_mask].sum(), s)
    torch.testing.assert_close(slope, torch.zeros_like(s))


def test_the_task_comes_from_a_column(of_tasks: Callable[..., BatchLossInputs]) -> None:
    s = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    outputs = plugrad.load("loss", "multi_task", tasks=["1", "b"], column="subject")(of_tasks(s, "subject", ("b", "1", "b")))
    assert outputs.metrics["nll/1"].value() == 2.0


@pytest.mark.parametrize(("column", "said"), [("task", "'c'.*'task'.*`tasks`"), ("subject", "task")])
def test_an_example_of_no_task_is_an_error(of_tasks: Callable[..., BatchLossInputs], column: str, said: str) -> None:
    inputs = of_tasks(torch.zeros(2, dtype=torch.float64, requires_grad=True), column, ("a", "c", "b"))
    with pytest.raises(plugrad.PlugradError, match=said):
        plugrad.load("loss", "multi_task", tasks=["a", "b"])(inputs)


@pytest.mark.parametrize("tasks", [[], ["a", "a"], [1]])
def test_tasks_are_names_each_once(tasks: list[Any]) -> None:
    with pytest.raises(plugrad.PlugradError, match="tasks"):
        plugrad.load("loss", "multi_task", tasks=tasks)


@pytest.mark.parametrize(("example", "error"), [({"task": "poems"}, plugrad.DataError), ({}, KeyError)])
def test_every_example_has_one_of_the_tasks(example: dict[str, Any], error: type[Exception]) -> None:
    options = {"tasks": ["sums", "proofs"], "column": "task"}
    check = plugrad.load("loss", "multi_task", tasks=options["tasks"]).bound.facts.check_example
    check({"task": "sums"}, options)
    with pytest.raises(error, match="task"):
        check(example, options)
