"""What a run began with and never changes: its examples and its frozen models. A run that goes on must have the same."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import nn

from plugrad.host.environment import BoundEnvironment
from plugrad.trainer.ranks.agreement import EXAMPLES, sum_of_examples
from plugrad.trainer.update.learner import Learner


def origin_of(learner: Learner, environment: BoundEnvironment) -> dict[str, str]:
    """Return the sums of the examples and of each frozen model, by what it is."""
    models = {f"the model behind {field}": policy for field, policy in learner.frozen.items()}
    if learner.teachers:
        models |= {f"the teacher {name!r}": policy for name, policy in learner.teachers.models.items() if policy is not None}
    return {
        EXAMPLES: sum_of_examples(environment),
        **{name: sum_of_weights(policy.model) for name, policy in models.items()},
    }


def sum_of_weights(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights, with their names, dtypes and shapes."""
    total = sha256()
    for name, weight in sorted(model.state_dict().items()):
        total.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        if weight.numel():
            # NumPy has no bfloat16.
            total.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()
