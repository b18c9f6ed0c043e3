"""Metrics on completions that nothing is trained on, in a scenario: of all groups, and of a set of some of them."""

from pathlib import Path
from types import SimpleNamespace

from plugrad import Max, Mean, RunFile, Sum, metric
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.evaluation_metrics import EvaluationMetrics
from plugrad.host.load import load_component
from plugrad.host.metric import BoundMetric
from plugrad.registry.scan import scan
from plugrad.trainer.held_out_metrics import HeldOutMetrics

SETS = {"eval": {0, 1, 2, 3}, "eval/some": {1}}
"""The groups of each, of which there are four."""


@metric(needs={"values", "ref_logprobs", "entropy"})
def of_models(inputs):
    """Reports all that models say of completions, and advantages."""
    fields = ("trainer_logprobs", "values", "ref_logprobs", "entropy", "advantages")
    means = {name: Mean.over(getattr(inputs, name), inputs.loss_mask) for name in fields}
    return {**means, "most": Max(inputs.entropy.max()), "groups": Sum(float(len(inputs.rollouts)))}


class HeldOutNumbers:
    """What an evaluation of the batch gives after each step: the same instances of metrics every time."""

    def __init__(self, names, learner, cutting):
        listed = [*names, f"{Path(__file__)}:of_models"]
        components = [load_component("metric", name, {}, scan(), []) for name in listed]
        advantage = load_component("advantage", "group_mean", {}, scan(), [])
        selection = SimpleNamespace(
            advantage=BoundAdvantage(advantage, advantage.create()),
            metrics=[BoundMetric(component, component.create(), component.name) for component in components],
        )
        run_file = RunFile(
            model={"from_scratch": {"model_type": "qwen3"}},
            environment={"name": "arithmetic"},
            # Another temperature than that of training.
            evaluation={"every_steps": 1, "rollouts_per_example": 3, "temperature": 0.7},
        )
        made = EvaluationMetrics.of(selection, run_file, SETS)
        self._metrics = HeldOutMetrics.of(run_file, made, learner, cutting)

    def of(self, batch, ranks, progress):
        """Return the numbers of all ranks' shares of a batch."""
        inputs, found = self._metrics.inputs(batch.groups, progress), {}
        for prefix, chosen in SETS.items():
            own = [place for place in range(len(batch.groups)) if batch.first_group + place in chosen]
            measures = self._metrics.of_set(prefix, inputs, own, None)
            found.update(ranks.add_up(measures).values_by_name())
        return found
