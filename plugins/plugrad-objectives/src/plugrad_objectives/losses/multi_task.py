"""Multi-task learning with learned uncertainty: the noisier a task, the less it counts (arXiv:1705.07115, eq. 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from plugrad import BatchLossInputs, DataError, LossOutputs, Mean, ModelSizes, finite_exp, loss


def _check_task(example: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    _place(example, options["tasks"], options["column"])


def _place(example: Mapping[str, Any], tasks: Sequence[str], column: str) -> int:
    """Return the place of an example's task among all."""
    name = example[column]
    if name not in tasks:
        raise DataError(
            f"{name!r} in its column {column!r} is none of the tasks {', '.join(map(repr, tasks))}. Add it to the option "
            "`tasks`."
        )
    return tasks.index(name)


@loss(policy_gradient=False, check_example=_check_task)
class MultiTask:
    """-log pi / sigma_k^2 + log sigma_k, at each token of task k, with one sigma_k for each task, which is learned.

    At the best sigma, sigma_k^2 is twice the mean of -log pi over the task's tokens. The parameters are
    s_k = log sigma_k^2, which start at 0. They need a greater learning rate than the policy: `[loss.optimizer]`.

    NeMo RL's guide makes the parameters in the loss, where no optimizer finds them.

    Args:
        tasks: the names of the tasks. Each example has one of them in its column.
        column: the column of the examples with the task.

    Reports:
        sigma/TASK: sigma of a task.
        nll/TASK: the mean of -log pi over the task's counted tokens, in nats.
    """

    def __init__(self, tasks: Annotated[list[str], Field(min_length=1)], column: str = "task") -> None:
        if len(set(tasks)) < len(tasks):
            raise ValueError(f"tasks = {tasks} names a task twice")
        self._tasks, self._column = tasks, column

    def trained(self, sizes: ModelSizes) -> nn.Module:
        """Return s, an entry for each task."""
        return nn.ParameterDict({"s": torch.zeros(len(self._tasks), dtype=sizes.dtype)})

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Weigh each row by its task."""
        assert inputs.parameters is not None
        task, s, nll = self._task_of_rows(inputs), inputs.parameters["s"], -inputs.trainer_logprobs
        of_row = s[task].unsqueeze(1)
        return LossOutputs(finite_exp(-of_row) * nll + of_row / 2, self._metrics(inputs, task, s.detach()))

    def _metrics(
        self, inputs: BatchLossInputs, task: Int[Tensor, "batch"], s: Float[Tensor, "tasks"]
    ) -> dict[str, Mean | Tensor]:
        found: dict[str, Mean | Tensor] = {}
        for place, name in enumerate(self._tasks):
            found[f"sigma/{name}"] = (s[place] / 2).exp()
            counted = inputs.loss_mask & (task == place).unsqueeze(1)
            found[f"nll/{name}"] = Mean.over(-inputs.trainer_logprobs, counted)
        return found

    def _task_of_rows(self, inputs: BatchLossInputs) -> Int[Tensor, "batch"]:
        """Return the place of each row's task."""
        assert inputs.metadata is not None
        places = [_place(example, self._tasks, self._column) for example in inputs.metadata]
        return torch.tensor(places, device=inputs.loss_mask.device)
