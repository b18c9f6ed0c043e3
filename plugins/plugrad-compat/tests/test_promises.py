"""Run the conformance kit on every loss, advantage and environment, one test per check."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plugrad.testing import Check, checks_of

HERE = Path(__file__).parent
OFFERED = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["entry-points"]
KINDS = {"plugrad.losses": "loss", "plugrad.advantages": "advantage", "plugrad.environments": "environment"}
CLIP = {"ratio_clip_min": 0.2, "ratio_clip_max": 0.2, "reference_policy_kl_penalty": 0.1}
DPO = {
    "reference_policy_kl_penalty": 0.1,
    "preference_loss_weight": 1.0,
    "sft_loss_weight": 0.2,
    "preference_average_log_probs": False,
    "sft_average_log_probs": True,
}
STARTS_PROCESSES = {"import_effects", "one_rank_equals_two"}
"""These checks take seconds each, so one loss runs them. tests/invariance covers the others."""


def foreign(file: str, name: str, **options: Any) -> dict[str, Any]:
    return {"target": f"{HERE}/foreign/{file}.py:{name}", **options}


TRIED = {
    "skyrl": [
        foreign("skyrl_losses", "MyCustomPolicyLoss", config={"my_param": 1.5}),
        foreign("skyrl_losses", "EntropyRegularizedLoss"),
        foreign("skyrl_losses", "clipped"),
        foreign("skyrl_losses", "summed", divides_by="nothing", config={"tis_imp_ratio_cap": 2.0}),
        foreign("skyrl_losses", "later"),
        foreign("skyrl_losses", "leave_one_out"),
    ],
    "skyrl_whole_batch": [foreign("skyrl_losses", "mixing")],
    "verl": [
        foreign("verl_losses", "my_vanilla"),
        foreign("verl_losses", "my_gspo", divides_by="tokens"),
        foreign("verl_losses", "my_grpo"),
        foreign("verl_losses", "my_remax"),
    ],
    "verl_whole_batch": [foreign("verl_losses", "my_clip_cov")],
    "nemo_rl": [
        foreign("nemo_rl_losses", "NLLLoss"),
        foreign("nemo_rl_losses", "ClippedPGLossFn", config={**CLIP, "token_level_loss": True}),
        foreign("nemo_rl_losses", "LaterClippedPGLossFn", config=CLIP),
        foreign("nemo_rl_losses", "LaterEntropyLoss"),
    ],
    "nemo_rl_whole_batch": [foreign("nemo_rl_losses", "LaterMeanSeeking")],
    "nemo_rl_sequence_whole_batch": [foreign("nemo_rl_losses", "CustomSequenceLossOfLogProbs", divides_by="sequences")],
    "nemo_rl_pairs": [foreign("nemo_rl_losses", "DPOLossFn", config=DPO)],
    "nemo_rl_forward": [
        foreign("nemo_rl_guide", "KLDivergenceLoss"),
        foreign("nemo_rl_guide", "CombinedLoss", config={"loss_functions": [{"name": "cross_entropy"}, {"name": "focal"}]}),
        foreign("nemo_rl_guide", "RewardShapingThatRuns"),
    ],
    "nemo_rl_forward_whole_batch": [
        foreign("nemo_rl_guide", "ContrastiveLoss", arguments={"labels": "group_ids"}, config={"margin": 3.0}),
        foreign(
            "nemo_rl_guide",
            "MultiTaskLoss",
            arguments={"predictions": "values", "targets": "returns", "task_ids": "group_ids"},
        ),
    ],
    "nemo_rl_sequence": [foreign("nemo_rl_losses", "ClippedPGLossFn", config={**CLIP, "token_level_loss": False})],
    "prime_rl": [
        foreign("prime_rl_losses", "ppo_clip_loss", kwargs={"clip_eps": 0.1}),
        foreign("prime_rl_losses", "distilled_loss", ref="teacher"),
        foreign("prime_rl_losses", "by_trajectory", kwargs={"bonus": 0.5}),
    ],
}
INFINITE = {"large_ratios": "Its own formula, a plain exp of the log-ratio, is infinite far off."}
CLAMPED = {"far_direction": "Its own formula clamps the log-ratio, where the gradient ends."}
EXPECTED_FAILURES = {
    **dict.fromkeys(("MyCustomPolicyLoss", "EntropyRegularizedLoss", "clipped", "summed", "mixing"), INFINITE),
    **dict.fromkeys(("ClippedPGLossFn", "LaterClippedPGLossFn", "ppo_clip_loss"), INFINITE),
    **dict.fromkeys(("later", "my_gspo"), CLAMPED),
    "my_clip_cov": {**INFINITE, "advantage_sign": "Its own weight, 1 + cov, can be negative."},
    "CustomSequenceLossOfLogProbs": {"padding": "Its own means count padding and prompts."},
    "KLDivergenceLoss": {"large_ratios": "Its own formula, the log of a softmax, is infinite far off."},
    "my_grpo": {"rounded_rewards": "Its own formula divides by a deviation of any size."},
}
"""Reasons by check. The adapters run a foreign formula as it is."""
ADVANTAGES = ("leave_one_out", "my_grpo", "my_remax", "by_trajectory")


def tried(kind: str, name: str) -> list[dict[str, Any]]:
    """Return the options to test a component with, above all what it adapts."""
    found = TRIED.get(name, [{}])
    return [
        options
        for options in found
        if ("target" not in options) or (kind == "advantage") == options["target"].endswith(ADVANTAGES)
    ]


def checks() -> Iterator[Any]:
    for group, kind in KINDS.items():
        for name in OFFERED[group]:
            for options in [] if kind == "environment" else tried(kind, name):
                said = options.get("target", "").rpartition(":")[2]
                for check in checks_of(f"plugrad-compat/{name}", kind=kind, options=options):
                    if check.name not in STARTS_PROCESSES or (name, said) == ("nemo_rl", "NLLLoss"):
                        reason = EXPECTED_FAILURES.get(said, {}).get(check.name)
                        marks = [pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True)] if reason else []
                        yield pytest.param(check, id=f"{kind}-{name}-{said}-{check.name}", marks=marks)


@pytest.mark.parametrize("check", list(checks()))
def test_it_is_kept(check: Check) -> None:
    check()


def test_the_environment_keeps_the_promises_of_one(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+{i}", "reference": str(2 * i), "ground_truth": str(2 * i)} for i in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "dataset": str(tmp_path / "sums.jsonl"),
        "rewards": [f"{HERE}/foreign/trl_rewards.py:{name}" for name in ("reward_func", "correct")],
        "weights": [0.1, 1.0],
        "num_eval": 4,
    }
    for check in checks_of("plugrad-compat/trl", kind="environment", options=options):
        if check.name not in STARTS_PROCESSES:
            try:
                check()
            except pytest.skip.Exception:
                continue
