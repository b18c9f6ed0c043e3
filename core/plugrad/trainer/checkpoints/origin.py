"""What a run began with and never changes: its examples and its frozen models. A run that goes on must have the same."""

from __future__ import annotations

from plugrad.host.environment import BoundEnvironment
from plugrad.policy.weight_sums import sum_of_weights
from plugrad.trainer.ranks.agreement import EXAMPLES, sum_of_examples
from plugrad.trainer.update.learner import Learner


def origin_of(learner: Learner, environment: BoundEnvironment) -> dict[str, str]:
    """Return the sums of the examples, of each frozen model and of an adapter's base, by what it is."""
    models = {f"the model behind {field}": policy for field, policy in learner.frozen.items() if policy is not None}
    if learner.teachers:
        models |= {f"the teacher {name!r}": policy for name, policy in learner.teachers.models.items() if policy is not None}
    return {
        EXAMPLES: sum_of_examples(environment),
        **{name: policy.sum_as_loaded or sum_of_weights(policy.model.state_dict()) for name, policy in models.items()},
        **({} if learner.adapter is None else learner.adapter.sums()),
    }
