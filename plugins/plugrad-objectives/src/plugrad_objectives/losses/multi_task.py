"""Multi-task learning with learned uncertainty: the noisier a task, the less it counts (arXiv:1705.07115, eq. 10)."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from plugrad import BatchLossInputs, DataError, LossOutputs, Mean, ModelSizes, finite_exp, loss


@loss(policy_gradient=False)
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
        self._places, self._column = {task: place for place, task in enumerate(tasks)}, column

    def trained(self, sizes: ModelSizes) -> nn.Module:
        """Return s, an entry for each task."""
        return nn.ParameterDict({"s": torch.zeros(len(self._places), dtype=sizes.dtype)})

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Weigh each row by its task."""
        assert inputs.parameters is not None
        task, s, nll = self._tasks(inputs), inputs.parameters["s"], -inputs.trainer_logprobs
        of_row = s[task].unsqueeze(1)
        return LossOutputs(finite_exp(-of_row) * nll + of_row / 2, self._metrics(inputs, task, s.detach()))

    def _metrics(
        self, inputs: BatchLossInputs, task: Int[Tensor, "batch"], s: Float[Tensor, "tasks"]
    ) -> dict[str, Mean | Tensor]:
        found: dict[str, Mean | Tensor] = {}
        for name, place in self._places.items():
            found[f"sigma/{name}"] = (s[place] / 2).exp()
            counted = inputs.loss_mask & (task == place).unsqueeze(1)
            found[f"nll/{name}"] = Mean.over(-inputs.trainer_logprobs, counted)
        return found

    def _tasks(self, inputs: BatchLossInputs) -> Int[Tensor, "batch"]:
        """Return the place of each row's task."""
        assert inputs.metadata is not None
        names = [example[self._column] for example in inputs.metadata]
        unknown = next((name for name in names if name not in self._places), None)
        if unknown is not None:
            raise DataError(
                f"an example has {unknown!r} in its column {self._column!r}, which is none of the tasks "
                f"{', '.join(map(repr, self._places))}. Add it to the option `tasks`."
            )
        return torch.tensor([self._places[name] for name in names], device=inputs.loss_mask.device)
