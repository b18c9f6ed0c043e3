"""Losses of other systems: however a batch is cut, and however many ranks share it, the update is the same."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator
from scenario import ALL_AT_ONCE, Scenario, assert_same, three_steps

from plugrad import ContractError

HERE = Path(__file__).parent
FOREIGN = HERE.parents[1] / "plugins" / "plugrad-compat" / "tests" / "foreign"


def foreign(style, target, reduction="token", **options):
    """Return the scenario of one loss, beside another that takes the policy away from the reference."""
    system = next(name for name in ("skyrl", "verl", "nemo_rl", "prime_rl") if style.startswith(name))
    file = FOREIGN / f"{system}_losses.py"
    terms = ((f"plugrad-compat/{style}", 1.0, reduction), ("importance_sampling", 0.1, "token"))
    given = (("target", f"{file}:{target}"), *options.items())
    return Scenario(seed=11, terms=terms, options=given, updates_per_batch=2)


def guide(target, kind="", **options):
    """Return the scenario of a loss of NeMo RL's guide."""
    scenario = foreign("nemo_rl_forward" + kind, target, "sequence_sum" if kind else "token", **options)
    file = ("target", f"{FOREIGN}/nemo_rl_guide.py:{target}")
    return replace(scenario, options=(file, *scenario.options[1:]))


FAR = {"margin": 100.0}
FOCAL = {"name": "focal", "params": {"gamma": 1.5}}
OF_VALUES = {"predictions": "values", "targets": "returns"}
DPO = {
    "reference_policy_kl_penalty": 0.1,
    "preference_loss_weight": 1.0,
    "sft_loss_weight": 0.2,
    "preference_average_log_probs": False,
    "sft_average_log_probs": True,
}
CLIP = {"ratio_clip_min": 0.2, "ratio_clip_max": 0.2, "reference_policy_kl_penalty": 0.1}
STYLES = {
    "skyrl class": foreign("skyrl", "MyCustomPolicyLoss"),
    "skyrl class with entropy": foreign("skyrl", "EntropyRegularizedLoss", "group"),
    "skyrl registered name": foreign("skyrl", "my_custom_loss", "sequence"),
    "skyrl function": foreign("skyrl", "clipped", "constant"),
    "skyrl function of a mean": foreign("skyrl", "reinforce"),
    "skyrl function of a sum": foreign("skyrl", "summed", divides_by="nothing", config={"tis_imp_ratio_cap": 2.0}),
    "skyrl function of its later versions": foreign("skyrl", "later"),
    "verl": foreign("verl", "my_vanilla"),
    "verl of a mean": foreign("verl", "my_gspo", "sequence", divides_by="tokens"),
    "NeMo RL": foreign("nemo_rl", "NLLLoss"),
    "NeMo RL token level": foreign("nemo_rl", "ClippedPGLossFn", config={**CLIP, "token_level_loss": True}),
    "NeMo RL sequence level": foreign(
        "nemo_rl_sequence", "ClippedPGLossFn", "sequence_sum", config={**CLIP, "token_level_loss": False}
    ),
    "NeMo RL with log-probs": foreign(
        "nemo_rl", "LaterClippedPGLossFn", config={"ratio_clip_min": 0.2, "ratio_clip_max": 0.2}
    ),
    "NeMo RL with logits by their later name": foreign("nemo_rl", "LaterEntropyLoss"),
    "skyrl of the whole batch": foreign("skyrl_whole_batch", "mixing"),
    "verl of the whole batch": foreign("verl_whole_batch", "my_clip_cov", "sequence"),
    "NeMo RL of the whole batch": foreign("nemo_rl_whole_batch", "LaterMeanSeeking", "group"),
    "NeMo RL of all sequences": foreign(
        "nemo_rl_sequence_whole_batch", "CustomSequenceLossOfLogProbs", "sequence_sum", divides_by="sequences"
    ),
    "NeMo RL of pairs": foreign("nemo_rl_pairs", "DPOLossFn", "sequence_sum", config=DPO),
    "NeMo RL's guide, contrastive": guide("ContrastiveLoss", "_whole_batch", arguments={"labels": "group_ids"}, config=FAR),
    "NeMo RL's guide, distillation": replace(guide("KLDivergenceLoss"), teachers=("teacher",)),
    "NeMo RL's guide, combined": guide("CombinedLoss", config={"loss_functions": [{"name": "cross_entropy"}, FOCAL]}),
    "NeMo RL's guide, reward shaping": replace(guide("RewardShapingThatRuns"), critic=True),
    "NeMo RL's guide, tasks of values": replace(
        guide("MultiTaskLoss", "_whole_batch", arguments={**OF_VALUES, "task_ids": "group_ids"}), critic=True
    ),
    "NeMo RL's guide, a task of its own": replace(
        guide("TasksOfClasses", arguments={"task_ids": 1}), where=(("task", "code"),)
    ),
    "prime-rl": foreign("prime_rl", "ppo_clip_loss", kwargs={"clip_eps": 0.1}),
    "prime-rl, later names": foreign("prime_rl", "distilled_loss", ref="reference"),
}


SHARDED = ("skyrl class", "NeMo RL token level", "NeMo RL's guide, contrastive")
"""Of a policy whose weights each rank has a part of: one loss of log-probs, one of logits, one of embeddings."""


@pytest.mark.parametrize("style", STYLES)
def test_the_cut_changes_nothing(style):
    found, whole = (
        three_steps(replace(STYLES[style], budget=budget), Accelerator(cpu=True)) for budget in (30, ALL_AT_ONCE)
    )
    assert found.num_micro_batches > whole.num_micro_batches == 1
    assert abs(whole.records[-1]["loss"]) > 0
    assert_same(found, whole)


def test_two_ranks_do_what_one_does(tmp_path):
    scenarios = {name: replace(scenario, budget=40, shares=(3, 1)) for name, scenario in STYLES.items()}
    sharded = {name: replace(scenarios[name], sharded=True) for name in SHARDED}
    given = {**scenarios, **{f"{name}, sharded": scenario for name, scenario in sharded.items()}}
    (tmp_path / "scenarios.pickle").write_bytes(pickle.dumps(given))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(HERE / "rank_worker.py"), str(tmp_path / "scenarios.pickle"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    alone = {name: three_steps(replace(s, shares=(1,)), Accelerator(cpu=True)) for name, s in scenarios.items()}
    for rank in range(2):
        _, count, results = pickle.loads((tmp_path / f"{rank}.pickle").read_bytes())
        assert count == 2
        for name, result in results.items():
            assert_same(result, alone[name.removesuffix(", sharded")])


@pytest.mark.parametrize(
    ("style", "target"),
    [("skyrl", "mixing"), ("verl", "my_clip_cov"), ("nemo_rl", "MeanSeeking"), ("nemo_rl", "LaterMeanSeeking")],
)
def test_a_loss_that_mixes_sequences_is_told_how_it_can(style, target):
    with pytest.raises(ContractError, match=f'mixes sequences.* name = "{style}_whole_batch"'):
        three_steps(foreign(style, target), Accelerator(cpu=True))
