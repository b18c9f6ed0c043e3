"""Reward and advantage of recorded completions, named in run files."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch

from plugrad import AdvantageInputs, AdvantageOutputs


def recorded_reward(completion: str, example: Mapping[str, Any]) -> float:
    """Return the reward that was recorded with the completion."""
    return float(example["reward"])


def mean_of_prompt(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A = reward - mean reward of the completions of the same prompt, which are examples of their own here."""
    prompts = [group[0]["prompt"] for group in inputs.rollouts]
    of_prompt: defaultdict[str, list[float]] = defaultdict(list)
    for prompt, rewards in zip(prompts, inputs.rewards.tolist(), strict=True):
        of_prompt[prompt] += rewards
    baseline = torch.tensor([fmean(of_prompt[prompt]) for prompt in prompts])
    return AdvantageOutputs(inputs.rewards - baseline.unsqueeze(1))
