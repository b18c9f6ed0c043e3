"""Reward functions as TRL's documentation has them: not a line is changed."""

import asyncio
import re


def reward_func(completions, **kwargs):
    """Rewards longer completions."""
    return [float(len(completion)) for completion in completions]


def format_reward_func(completions, **kwargs):
    """Checks if the completion of a conversation has a specific format."""
    pattern = r"^<think>.*?</think><answer>.*?</answer>$"
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(pattern, content) else 0.0 for content in contents]


def correct(completions, ground_truth, **kwargs):
    """Compares with a column of the dataset."""
    return [float(c == gt) for c, gt in zip(completions, ground_truth, strict=True)]


def math_reward_func(prompts, completions, task, **kwargs):
    """Says nothing of examples of another task."""
    return [
        float(c == str(eval(p.rstrip("=")))) if t == "math" else None
        for p, c, t in zip(prompts, completions, task, strict=True)
    ]


def logging_reward(completions, log_metric=None, log_extra=None, trainer_state=None, **kwargs):
    hits = [float("1" in completion) for completion in completions]
    log_extra("has_a_one", hits)
    log_metric("ones/mean", sum(hits) / len(hits))
    log_metric("step", trainer_state.global_step)
    return hits


async def async_reward_func(prompts, completions, **kwargs):
    await asyncio.sleep(0.001)
    return [float(prompt in completion) for prompt, completion in zip(prompts, completions, strict=True)]
