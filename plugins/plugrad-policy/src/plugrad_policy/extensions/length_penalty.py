"""`length_penalty`: charge rewards for tokens and turns, and charge more on easier examples."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, Mean, Measure, MetricInputs, Rollout, hookimpl

Weight = Annotated[float, Field(ge=0)]


class LengthPenalty:
    """r_ij <- r_ij - max(mean_j r_ij, 0) (w_out L_ij / max_j L_ij + w_in P_ij / max_j P_ij + w_turns T_ij / max_j T_ij).

    L counts the tokens of the completion, P those of the prompt, and T the turns: the steps of the rollout's
    `trajectory`, or the policy's replies, or 1. The group's mean reward is its success rate, so length is cheap where few
    rollouts succeed. This is prime-rl's linear penalty. If all rollouts of an example share the prompt and take one turn,
    those two terms are equal. An advantage that subtracts the group's mean then cancels them.

    A group whose mean is below 0 pays nothing. prime-rl would reward it for length. An advantage that reads reward
    components, such as `gdpo`, gets the penalty as a component of its own, `extensions`.

    Args:
        num_output_tokens_weight: w_out. All three defaults are prime-rl's.
        num_input_tokens_weight: w_in.
        num_turns_weight: w_turns.

    Reports:
        mean: the mean penalty, reported with the first update of a batch of rollouts.
    """

    def __init__(
        self,
        num_output_tokens_weight: Weight = 0.25,
        num_input_tokens_weight: Weight = 0.1,
        num_turns_weight: Weight = 0.1,
    ) -> None:
        self._output_weight = num_output_tokens_weight
        self._input_weight = num_input_tokens_weight
        self._turns_weight = num_turns_weight
        self._measured: dict[str, Measure] = {}

    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs: AdvantageInputs) -> Generator[None, AdvantageInputs, AdvantageInputs]:
        """Subtract the penalty."""
        prepared = yield
        penalty = prepared.rewards.mean(dim=1, keepdim=True).clamp(min=0) * self._costs(prepared)
        self._measured = {"length_penalty/mean": Mean.of(penalty)}
        return replace(prepared, rewards=prepared.rewards - penalty)

    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs: MetricInputs) -> Generator[None, Mapping[str, Measure], Mapping[str, Measure]]:
        """Add the mean penalty."""
        measures = yield
        measured, self._measured = self._measured, {}
        return {**measures, **measured}

    def _costs(self, inputs: AdvantageInputs) -> Tensor:
        """Return the weighted shares `[num_examples, rollouts_per_example]`."""
        outputs = inputs.completion_lengths.to(inputs.rewards)
        prompts = inputs.rewards.new_tensor([[len(r["prompt_ids"]) for r in group] for group in inputs.rollouts])
        turns = inputs.rewards.new_tensor([[_num_turns(r) for r in group] for group in inputs.rollouts])
        weighted = (
            (self._output_weight, outputs),
            (self._input_weight, prompts),
            (self._turns_weight, turns),
        )
        return torch.stack([weight * _of_greatest(counts) for weight, counts in weighted]).sum(dim=0)


def _of_greatest(counts: Tensor) -> Tensor:
    return counts / counts.amax(dim=1, keepdim=True).clamp(min=1)


def _num_turns(rollout: Rollout) -> int:
    replies = [turn for turn in rollout.get("turns", []) if turn["role"] == "assistant"]
    return len(rollout.get("trajectory", [])) or len(replies) or 1
