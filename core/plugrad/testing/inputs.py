"""Rollouts and inputs for the tests of plugins: the same at every call, with nothing to write by hand."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.rollout import Rollout
from plugrad.host import synthetic
from plugrad.host.made_up import with_made_up_outputs
from plugrad.host.synthetic import DRIFT, NEWEST_VERSION, make_rollout, metric_inputs
from plugrad.testing.trial_examples import trial_example

__all__ = ["loss_inputs", "metric_inputs", "rollouts"]

LONGEST = 8


def rollouts(
    rewards: Sequence[Sequence[float]],
    *,
    lengths: Sequence[Sequence[int]] | None = None,
    components: Sequence[Sequence[Mapping[str, float]]] | None = None,
    seed: int = 0,
) -> list[list[Rollout]]:
    """Return groups of rollouts with these rewards, for `AdvantageInputs(rollouts=...)` or `metric_inputs`.

    Tokens, log-probs and policy versions are drawn. Every third completion is truncated.

    Args:
        rewards: one row per group.
        lengths: of the completions, in tokens; between 2 and 8 by default.
        components: of the rewards; none by default.
        seed: of every number that is drawn.
    """
    draw = random.Random(seed)
    groups: list[list[Rollout]] = []
    for i, row in enumerate(rewards):
        sizes = lengths[i] if lengths else [draw.randint(2, LONGEST) for _ in row]
        parts = components[i] if components else [{} for _ in row]
        members = zip(row, sizes, parts, strict=True)
        groups.append([_rollout(draw, (i, j), reward, size, part) for j, (reward, size, part) in enumerate(members)])
    return groups


def loss_inputs(lengths: Sequence[int], *, seed: int = 0, drift: float = DRIFT, **fields: Any) -> BatchLossInputs:
    """Return a micro-batch in float64 with every field, one row per completion length.

    Logits, hidden states and embedding follow from `trainer_logprobs`: the log-softmax of the logits gives each counted
    token its log-prob.

    Args:
        lengths: of the completions, in tokens; each prompt has two more.
        seed: of every number that is drawn.
        drift: the largest distance, in nats, of `inference_logprobs` and `old_logprobs` from `trainer_logprobs`.
        fields: replace the fields made here.
    """
    inputs = synthetic.loss_inputs(lengths, seed=seed, drift=drift, **fields)
    return with_made_up_outputs(inputs, {"logits", "hidden_states", "embedding", "values"} - fields.keys())


def _rollout(
    draw: random.Random, place: tuple[int, int], reward: float, length: int, components: Mapping[str, float]
) -> Rollout:
    example, index = place
    made = make_rollout(
        draw,
        length,
        prompt=f"prompt {example}",
        completion=f"completion {index} of prompt {example}",
        reward=reward,
        reward_components=dict(components),
        truncated=(example + index) % 3 == 0,
        example=trial_example(example_id=example, prompt=f"prompt {example}", reference=f"answer {example}"),
    )
    made["policy_versions"] = [draw.randint(0, NEWEST_VERSION)] * length
    return made
