"""The package's advantages against what other systems return on the same rewards, to 1e-6.

Not compared: `trl/advantages/none` and `.../length_weighted_mean=False` are core's `group_mean`, whose tests have them. No
other system's value is at hand for `rloo`, `reinforce_plus_plus`, `reinforce_plus_plus_baseline`, `passk` and `remax`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, Rollout

PEERS = json.loads((Path(__file__).parents[1] / "golden" / "peers.json").read_text())
GIVEN = PEERS["advantage_batch"]
Build = Callable[..., Rollout]


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "reference", "options"),
    [
        ("trl/advantages/group", "grpo:grpo", {"eps": 1e-4}),
        ("trl/advantages/batch", "lite_ppo:lite_ppo", {}),
        ("slime/advantages/grpo_std", "grpo:grpo", {}),
        ("prime_rl/HEAD/max_rl", "maxrl:maxrl", {}),
        ("prime_rl/seed_f870f3cbd/default_advantage_fn/length_weighted_mean=True", "opo:opo", {}),
    ],
)
def test_advantages_are_those_of(key: str, reference: str, options: dict[str, float]) -> None:
    inputs = AdvantageInputs(
        rewards=torch.tensor(GIVEN["rewards"], dtype=torch.float64),
        completion_lengths=torch.tensor(GIVEN["completion_lengths"]),
    )
    advantage = plugrad.load("advantage", f"plugrad_policy.advantages.{reference}", **options)
    close(advantage(inputs).advantages, PEERS[key])


def test_gdpo_is_trls_normalize_then_sum(rollout: Build) -> None:
    second = [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    groups = [
        [rollout(one + two, components={"one": one, "two": two}) for one, two in zip(*pair, strict=True)]
        for pair in zip(GIVEN["rewards"], second, strict=True)
    ]
    found = plugrad.load("advantage", "plugrad_policy.advantages.gdpo:gdpo")(AdvantageInputs(rollouts=groups))
    close(found.advantages, PEERS["trl/advantages/normalize_then_sum(second rewards=[[0,1,0],[1,1,0]])"])


def test_rae_is_prime_rls() -> None:
    inputs = AdvantageInputs(
        rewards=torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64), completion_lengths=torch.full((1, 3), 2)
    )
    found = plugrad.load("advantage", "plugrad_policy.advantages.rae:Rae")(inputs)
    close(found.advantages, [PEERS["prime_rl/HEAD/rae(decay=.95,rewards=[1,0,1],one agent)"]])
